"""A second, slow reading of cron's rules: every minute looked at, nothing computed ahead.

Tests compare it with the real one. It shares nothing with it, not even the parser.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def fires(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Every fire in (start, end], UTC, whole minutes."""
    tz = ZoneInfo(zone)
    minute, hour, *_ = expression.split()
    is_fixed = not minute.startswith("*") and not hour.startswith("*")
    found = []
    before = wall_at(start, tz)[0]
    moment = start
    while moment < end:
        moment += MINUTE
        wall, is_repeat = wall_at(moment, tz)
        shown = [*walls_between(before, wall), wall] if is_fixed else [wall]
        if not (is_fixed and is_repeat) and any(matches(expression, one) for one in shown):
            found.append(moment)
        before = wall
    return found


def wall_at(moment: datetime, tz: ZoneInfo) -> tuple[datetime, bool]:
    """What the clock on the wall shows, and whether it showed that before."""
    local = moment.astimezone(tz)
    return local.replace(tzinfo=None, fold=0), local.fold == 1


def walls_between(before: datetime, after: datetime) -> Iterator[datetime]:
    """The minutes that the clock jumped over."""
    wall = before + MINUTE
    while wall < after:
        yield wall
        wall += MINUTE


def matches(expression: str, wall: datetime) -> bool:
    minute, hour, day, month, weekday = expression.split()
    in_day = wall.day in numbers(day, 2)
    in_week = wall.isoweekday() % 7 in {number % 7 for number in numbers(weekday, 4)}
    both = day.startswith("*") or weekday.startswith("*")
    return (
        wall.minute in numbers(minute, 0)
        and wall.hour in numbers(hour, 1)
        and wall.month in numbers(month, 3)
        and ((in_day and in_week) if both else (in_day or in_week))
    )


def numbers(field: str, place: int) -> set[int]:
    """The numbers of one field: lists of stars, numbers and spans, with steps."""
    low, high = RANGES[place]
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        if span == "*":
            first, last = low, high
        elif "-" in span:
            first, last = map(int, span.split("-"))
        else:
            first, last = int(span), high if step else int(span)
        found |= set(range(first, last + 1, int(step or 1)))
    return found


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]  # year to minute
