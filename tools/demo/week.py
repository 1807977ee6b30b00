"""A week of one person, as their agents would have reported it. Deterministic: same week, same
events, so running the demo twice changes nothing.
"""

import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from tools.demo.people import PHONE, Activity, Person

WINDOW: Final = "aw-watcher-window"
AFK: Final = "aw-watcher-afk"
WEB: Final = "aw-watcher-web-firefox"
EDITOR: Final = "editor"
LUNCH_HOUR: Final = 12.75
# How long people stay with one thing: most switches are quick, some stretches are long.
STAY_SECONDS: Final = (15, 30, 45, 90, 180, 300, 600, 1500)


class Report:
    """Events by (device, source), as bodies of `POST /v1/events`."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def add(
        self, device: str, source: str, start: datetime, seconds: float, **attributes: object
    ) -> None:
        """Adds one event; empty attributes are left out."""
        known = {key: value for key, value in attributes.items() if value not in {"", None}}
        event = {"start": start.isoformat(), "duration": seconds, **known}
        self.events.setdefault((device, source), []).append(event)

    def bodies(self, size: int) -> Iterator[dict[str, Any]]:
        """Requests of at most `size` events."""
        for (device, source), events in self.events.items():
            for at in range(0, len(events), size):
                part = events[at : at + size]
                yield {"device_id": device, "source": source, "events": part}


def week_of(person: Person, days: list[date]) -> Report:
    """Everything a person's devices report for some local dates."""
    report = Report()
    for day in days:
        if day.weekday() < 5:
            _work_day(person, day, report)
    return report


def _work_day(person: Person, day: date, report: Report) -> None:
    chance = random.Random(f"{person.email} {day}")  # noqa: S311  # a story, not a secret
    zone = ZoneInfo(person.time_zone)
    midnight = datetime.combine(day, time(), zone)
    begin = person.hours[0] + chance.uniform(-0.4, 0.4)
    end = person.hours[1] + chance.uniform(-0.7, 1.0)
    lunch = LUNCH_HOUR + chance.uniform(-0.3, 0.3)
    morning = (_at(midnight, begin), _at(midnight, lunch))
    afternoon = (_at(midnight, lunch + chance.uniform(0.5, 0.9)), _at(midnight, end))
    for start, stop in (morning, afternoon):
        _sitting(person, chance, report, start, stop)
    _away(person, report, morning[1], afternoon[0])
    if person.has_phone:
        device = f"{_short(person)}-phone"
        for _ in range(chance.randint(2, 5)):
            start = _at(midnight, chance.uniform(begin, end + 3))
            _observe(report, device, PHONE, start, chance.randint(40, 400), idle=False)


def _sitting(
    person: Person, chance: random.Random, report: Report, start: datetime, stop: datetime
) -> None:
    device = f"{_short(person)}-laptop"
    weights = [weight for weight, _ in person.habits]
    at, present_since = start, start
    while at < stop:
        (_, activity) = chance.choices(person.habits, weights)[0]
        seconds = min(chance.choice(STAY_SECONDS), (stop - at).total_seconds())
        _observe(report, device, activity, at, seconds)
        at += timedelta(seconds=seconds)
        if chance.random() < 0.03:
            # A coffee: the window stays, the person does not.
            pause = chance.randint(200, 700)
            report.add(device, AFK, present_since, (at - present_since).total_seconds(), idle=False)
            report.add(device, AFK, at, pause, idle=True)
            at += timedelta(seconds=pause)
            present_since = at
    report.add(device, AFK, present_since, (at - present_since).total_seconds(), idle=False)


def _away(person: Person, report: Report, start: datetime, stop: datetime) -> None:
    report.add(f"{_short(person)}-laptop", AFK, start, (stop - start).total_seconds(), idle=True)


def _observe(
    report: Report,
    device: str,
    activity: Activity,
    start: datetime,
    seconds: float,
    *,
    idle: bool | None = None,
) -> None:
    report.add(device, WINDOW, start, seconds, app=activity.app, title=activity.title, idle=idle)
    if activity.url:
        report.add(device, WEB, start, seconds, url=activity.url, title=activity.title)
    if activity.file:
        for after in range(0, int(seconds), 120):
            report.add(
                device,
                EDITOR,
                start + timedelta(seconds=after),
                0,
                kind="point",
                project=activity.project,
                file=activity.file,
                language=activity.language,
            )


def _at(midnight: datetime, hour: float) -> datetime:
    """A wall-clock hour of the day, to the second."""
    return midnight + timedelta(seconds=round(hour * 3600))


def _short(person: Person) -> str:
    return person.email.partition("@")[0]
