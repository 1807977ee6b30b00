"""What facts become on channels."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from services.realtime.domain.channels import ORG, user_channel
from services.realtime.domain.live import (
    MAX_DAYS_LISTED,
    MAX_SESSIONS_LISTED,
    DayView,
    LiveEvent,
    Outgoing,
    SessionView,
    TimeChange,
    for_managers,
    presence_events,
    time_events,
)
from services.realtime.domain.presence import Presence

ACME = UUID(int=1)
ANA, BEN = UUID(int=0xA), UUID(int=0xB)
NINE = datetime(2026, 1, 19, 9, tzinfo=UTC)


def session(number: int) -> SessionView:
    return SessionView(
        id=f"s{number}",
        user_id=str(ANA),
        kind="active",
        start=NINE,
        end=NINE.replace(hour=10),
        active_seconds=3600.0,
        category="development",
        app="Code",
        domain=None,
        project=None,
        apps=["Code"],
        contexts=[],
        context_switches=0,
        interruptions=0,
        devices=[],
        version=7,
    )


def day(date: str = "2026-01-19", version: int = 3, user: UUID = ANA) -> DayView:
    return DayView(
        user_id=str(user),
        date=date,
        active_seconds=3600.0,
        idle_seconds=0.5,
        session_count=2,
        version=version,
    )


def change(**parts: Any) -> TimeChange:
    given = {"updated": [], "removed": [], "days": [], **parts}
    return TimeChange(org_id=ACME, user_id=ANA, version=7, **given)


def names(events: list[LiveEvent]) -> list[str]:
    return [event.event for event in events]


def plain(event: LiveEvent) -> Any:
    return msgspec.json.decode(msgspec.json.encode(event.data))


def outgoing(events: list[LiveEvent], source: str = "m") -> list[Outgoing]:
    return [Outgoing(event, f"{source}:{at}", "") for at, event in enumerate(events)]


def test_a_change_is_told_to_the_person_sessions_first_and_days_last() -> None:
    events = time_events(change(updated=[session(1), session(2)], removed=["s0"], days=[day()]))
    assert names(events) == [
        "session.updated",
        "session.updated",
        "session.removed",
        "day.updated",
    ]
    assert {event.channel for event in events} == {user_channel(ANA)}
    assert plain(events[2]) == {"id": "s0", "user_id": str(ANA), "version": 7}


def test_a_session_is_spelled_as_the_public_interface_spells_it() -> None:
    (event,) = time_events(change(updated=[session(1)]))
    assert plain(event) == {
        "id": "s1",
        "user_id": str(ANA),
        "kind": "active",
        "start": "2026-01-19T09:00:00Z",
        "end": "2026-01-19T10:00:00Z",
        "active_seconds": 3600.0,
        "category": "development",
        "app": "Code",
        "domain": None,
        "project": None,
        "apps": ["Code"],
        "contexts": [],
        "context_switches": 0,
        "interruptions": 0,
        "devices": [],
        "version": 7,
    }


def test_a_day_is_told_without_a_hint_unless_there_is_reason() -> None:
    (event,) = time_events(change(days=[day()]))
    assert plain(event) == {
        "user_id": str(ANA),
        "date": "2026-01-19",
        "active_seconds": 3600.0,
        "idle_seconds": 0.5,
        "session_count": 2,
        "version": 3,
    }


def test_as_many_sessions_as_may_be_listed_are_listed() -> None:
    events = time_events(change(updated=[session(n) for n in range(MAX_SESSIONS_LISTED)]))
    assert len(events) == MAX_SESSIONS_LISTED


def test_more_sessions_than_that_become_days_with_a_hint() -> None:
    many = [session(n) for n in range(MAX_SESSIONS_LISTED)]
    events = time_events(change(updated=many, removed=["s"], days=[day(), day("2026-01-20")]))
    assert names(events) == ["day.updated", "day.updated"]
    assert [plain(event)["reload"] for event in events] == [True, True]
    assert plain(events[1])["date"] == "2026-01-20"


def test_more_days_than_may_be_listed_become_one_hint_without_a_date() -> None:
    days = [day(str(number)) for number in range(MAX_DAYS_LISTED + 1)]
    (event,) = time_events(change(days=days))
    assert plain(event) == {"user_id": str(ANA), "date": None, "reload": True}


def test_many_sessions_without_a_day_become_one_hint_too() -> None:
    many = [session(n) for n in range(MAX_SESSIONS_LISTED + 1)]
    (event,) = time_events(change(updated=many))
    assert plain(event) == {"user_id": str(ANA), "date": None, "reload": True}


def test_managers_hear_days_only_and_of_each_the_newest() -> None:
    older = time_events(change(updated=[session(1)], days=[day(version=3), day("2026-01-20")]))
    newer = time_events(change(days=[day(version=4)]))
    told = for_managers([*outgoing(older, "m1"), *outgoing(newer, "m2")])
    assert [(one.event.channel, plain(one.event)["date"]) for one in told] == [
        (ORG, "2026-01-20"),
        (ORG, "2026-01-19"),
    ]
    assert plain(told[1].event)["version"] == 4
    assert [one.message_id for one in told] == ["m1:2:org", "m2:0:org"]


def test_managers_hear_of_each_person_in_each_organization() -> None:
    ana = LiveEvent(ACME, user_channel(ANA), "day.updated", day())
    ben = LiveEvent(ACME, user_channel(BEN), "day.updated", day(user=BEN))
    elsewhere = LiveEvent(UUID(int=2), user_channel(ANA), "day.updated", day())
    told = for_managers(outgoing([ana, ben, elsewhere]))
    assert [one.event.org_id for one in told] == [ACME, ACME, UUID(int=2)]


def test_a_hint_survives_the_newer_totals_that_replace_it() -> None:
    many = [session(n) for n in range(MAX_SESSIONS_LISTED + 1)]
    hinted = outgoing(time_events(change(updated=many, days=[day(version=3)])), "m1")
    plainly = outgoing(time_events(change(days=[day(version=4)])), "m2")
    (told,) = for_managers([*hinted, *plainly])
    assert plain(told.event)["version"] == 4
    assert plain(told.event)["reload"] is True


def test_presence_is_told_to_managers_and_to_the_person() -> None:
    events = presence_events(ACME, Presence(ANA, "away", 2, 1_768_790_100_500_000))
    assert [event.channel for event in events] == [ORG, user_channel(ANA)]
    assert plain(events[0]) == {
        "user_id": str(ANA),
        "state": "away",
        "connections": 2,
        "since": "2026-01-19T02:35:00.500000Z",
    }
