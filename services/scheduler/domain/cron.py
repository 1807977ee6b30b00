"""When a five-field cron expression fires in an IANA zone, by Debian's rules for clock changes.

cronsim reads the expression and walks the wall clock; the changes of the clock are handled here,
because cronsim 2.8 loses fires where the clock changes by half an hour or at midnight.

    minute and hour both fixed     a skipped moment fires at the end of the gap, once;
                                   a repeated moment fires the first time only
    either starts with `*`         fires whenever the wall clock shows it: not in a gap, twice in
                                   an overlap
"""

from bisect import bisect_right
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from chassis.errors import Invalid

_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)
# Zones change rarely and never twice within this time.
_STEP: Final = timedelta(hours=6)
# cronsim gives up after 50 years without a match; so do we.
_HORIZON: Final = timedelta(days=50 * 366)
_ANY_WALL: Final = datetime(2024, 1, 1)  # noqa: DTZ001  # wall time has no zone


def check(expression: str, time_zone: str) -> None:
    """Raises Invalid for what is no five-field expression, or never fires, or no IANA zone."""
    zone(time_zone)
    if len(expression.split()) != 5:
        raise Invalid.field("expression", "must have five fields: minute hour day month weekday")
    try:
        next(_walk(expression, _ANY_WALL))
    except CronSimError as error:
        raise Invalid.field("expression", f"{error}") from error
    except StopIteration:
        raise Invalid.field("expression", "never fires") from None


@lru_cache(maxsize=1024)
def zone(time_zone: str) -> ZoneInfo:
    """The zone of an IANA name.

    Raises:
        Invalid: there is none; offsets such as `+02:00` are none.
    """
    try:
        return ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as error:
        raise Invalid.field("time_zone", f"{time_zone!r} is no IANA zone") from error


def next_after(expression: str, time_zone: str, after: datetime) -> datetime | None:
    """The first fire strictly after `after` (UTC); None when there is none within 50 years."""
    minute, hour, *_ = expression.split()
    try:
        if minute.startswith("*") or hour.startswith("*"):
            return _next_of_clock(expression, zone(time_zone), after)
        return _next_of_date(expression, zone(time_zone), after)
    except StopIteration:
        return None


def _next_of_clock(expression: str, tz: ZoneInfo, after: datetime) -> datetime | None:
    """Searches stretch by stretch: between two changes wall time is UTC plus a constant."""
    cursor = stretch = after
    while stretch < after + _HORIZON:
        offset = _offset(tz, stretch)
        found = next(_walk(expression, _naive(cursor) + offset))
        moment = (found - offset).replace(tzinfo=UTC)
        change = _next_change(tz, stretch)
        if change is None or moment < change:
            return moment
        # The search is for what comes after the cursor, and the change itself may be a fire.
        cursor, stretch = change - _SECOND, change
    return None


def _next_of_date(expression: str, tz: ZoneInfo, after: datetime) -> datetime | None:
    """Walks the calendar: each wall moment stands for one instant, see the module's table."""
    walk = _walk(expression, _naive(after.astimezone(tz)))
    while True:
        wall = next(walk).replace(tzinfo=tz)
        moment = wall.astimezone(UTC)
        if moment.astimezone(tz).replace(tzinfo=None) != wall.replace(tzinfo=None):
            moment = _last_change(tz, moment)
        if moment > after:
            return moment


def _walk(expression: str, wall: datetime) -> CronSim:
    """The moments on the wall clock after `wall`, which has no zone: no rule of cronsim's applies."""
    walk = copy(_parsed(expression))
    walk.dt = wall.replace(microsecond=0)
    return walk


# Reading an expression costs as much as finding its next moment.
@lru_cache(maxsize=16_384)
def _parsed(expression: str) -> CronSim:
    return CronSim(expression, _ANY_WALL)


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None, fold=0)


def _offset(tz: ZoneInfo, moment: datetime) -> timedelta:
    offset = moment.astimezone(tz).utcoffset()
    return offset if offset is not None else timedelta(0)


def _next_change(tz: ZoneInfo, after: datetime) -> datetime | None:
    """The first change strictly after; None when there is none this year or next."""
    for year in (after.year, after.year + 1):
        changes = _changes(tz, year)
        place = bisect_right(changes, after)
        if place < len(changes):
            return changes[place]
    return None


def _last_change(tz: ZoneInfo, at: datetime) -> datetime:
    changes = _changes(tz, at.year)
    return changes[bisect_right(changes, at) - 1]


@lru_cache(maxsize=4096)
def _changes(tz: ZoneInfo, year: int) -> tuple[datetime, ...]:
    """The instants of a year (UTC) at which the offset of a zone changes."""
    found = []
    moment, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    while moment < end:
        if _offset(tz, moment) != _offset(tz, moment + _STEP):
            found.append(_bisect_change(tz, moment, moment + _STEP))
        moment += _STEP
    return tuple(found)


def _bisect_change(tz: ZoneInfo, before: datetime, after: datetime) -> datetime:
    old = _offset(tz, before)
    while after - before > _MINUTE:
        middle = before + (after - before) // 2
        middle = middle.replace(second=0, microsecond=0)
        if _offset(tz, middle) == old:
            before = middle
        else:
            after = middle
    return after
