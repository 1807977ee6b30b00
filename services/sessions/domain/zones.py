"""Local days of a person: which date an instant belongs to, and which instants a date has.

An instant's date is its wall-clock date, less the start-of-day offset, in the zone the person was
in. That makes every instant part of exactly one date; a date has no instants when clocks or zones
skip it, and several segments when they come back to it. Transitions are found by probing offsets,
because `zoneinfo` does not list them.
"""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from chassis.errors import Invalid
from services.sessions.domain.intervals import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    Interval,
    union,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.date().toordinal()
_PROBE_US = 6 * HOUR_US  # No zone has ever changed its offset twice within six hours.
_WIDEST_OFFSET_US = 36 * HOUR_US  # More than any offset and any start of day together.
FIRST_US, LAST_US = -62_135_000_000 * SECOND_US, 253_402_000_000 * SECOND_US
"""The years 1 to 9999, less a day for offsets; instants outside have no local date."""


class ZoneChange(msgspec.Struct, frozen=True):
    """From an instant on the person lives in an IANA zone; None means since ever."""

    effective_from_us: int | None
    zone: str


class ZoneHistory(msgspec.Struct, frozen=True):
    """The zones a person lived in and when their day starts.

    `changes`: n ≥ 1, sorted by `effective_from_us`; the first applies to all earlier time as well.

    Raises:
        Invalid: no change, unsorted changes, an unknown zone, or a day that starts outside
            0..1,439 minutes after midnight.
    """

    changes: tuple[ZoneChange, ...]
    day_start_minutes: int = 0

    def __post_init__(self) -> None:
        if not self.changes:
            raise Invalid.field("changes", "must name at least one zone")
        if not 0 <= self.day_start_minutes < 1440:
            raise Invalid.field("day_start_minutes", "must be between 0 and 1439")
        starts = [change.effective_from_us for change in self.changes[1:]]
        if None in starts or any(a >= b for a, b in pairwise(self._starts)):
            raise Invalid.field("changes", "must be sorted by the instant they take effect")
        for change in self.changes:
            _zone(change.zone)

    @classmethod
    def of(cls, zone: str, day_start_minutes: int = 0) -> "ZoneHistory":
        """Somebody who has always lived in one zone."""
        return cls((ZoneChange(None, zone),), day_start_minutes)

    @property
    def _starts(self) -> list[int]:
        return [FIRST_US, *(change.effective_from_us or 0 for change in self.changes[1:])]

    def zone_at(self, instant_us: int) -> str:
        """The zone lived in at an instant."""
        return self.changes[max(bisect_right(self._starts, instant_us) - 1, 0)].zone

    def zone_on(self, day: date) -> str:
        """The zone at the end of a local date; of the next one if the date was skipped."""
        for following in range(3):
            segments = self.span_of(day + timedelta(following))
            if segments:
                return self.zone_at(segments[-1][1] - 1)
        return self.changes[-1].zone

    def date_of(self, instant_us: int) -> date:
        """The local date an instant belongs to."""
        offset_us = _offset_us(self.zone_at(instant_us), instant_us)
        return self._date(instant_us + offset_us)

    def offsets(self, start_us: int, end_us: int) -> Iterator[tuple[int, int, int]]:
        """Sorted `(start_us, end_us, utc_offset_us)` that cover a stretch; neighbours touch."""
        starts = [*self._starts, LAST_US]
        for change, (since, until) in zip(self.changes, pairwise(starts), strict=True):
            lo, hi = max(start_us, since), min(end_us, until)
            if lo < hi:
                yield from _offsets(change.zone, lo, hi)

    def span_of(self, day: date) -> list[Interval]:
        """The instants of a local date: one stretch, or none, or several; see the module."""
        wall_us = self._wall_us(day)
        around = (wall_us - _WIDEST_OFFSET_US, wall_us + DAY_US + _WIDEST_OFFSET_US)
        return union(
            (max(start, wall_us - offset), min(end, wall_us - offset + DAY_US))
            for start, end, offset in self.offsets(*around)
        )

    def dates_touching(self, start_us: int, end_us: int) -> list[date]:
        """Every local date that has an instant of `[start_us, end_us)`, sorted."""
        dates: set[date] = set()
        for start, end, offset_us in self.offsets(start_us, end_us):
            first, last = self._date(start + offset_us), self._date(end - 1 + offset_us)
            dates.update(first + timedelta(n) for n in range((last - first).days + 1))
        return sorted(dates)

    def _wall_us(self, day: date) -> int:
        """The start of a date as clocks on the wall show it."""
        return (day.toordinal() - _EPOCH_DAY) * DAY_US + self.day_start_minutes * MINUTE_US

    def _date(self, wall_us: int) -> date:
        days = (wall_us - self.day_start_minutes * MINUTE_US) // DAY_US
        return date.fromordinal(_EPOCH_DAY + days)


def hours_in(zones: ZoneHistory, start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    """`(local hour 0..23, microseconds)` pieces of a stretch, in order; a repeated hour repeats."""
    for start, end, offset_us in zones.offsets(start_us, end_us):
        cursor = start
        while cursor < end:
            wall_us = cursor + offset_us
            until = min(end, cursor + HOUR_US - wall_us % HOUR_US)
            yield wall_us // HOUR_US % 24, until - cursor
            cursor = until


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise Invalid.field("zone", f"{name!r} is not an IANA time zone") from exc


def _offset_us(zone: str, instant_us: int) -> int:
    local = (_EPOCH + timedelta(microseconds=instant_us)).astimezone(_zone(zone))
    return (local.utcoffset() or timedelta()) // timedelta(microseconds=1)


@lru_cache(maxsize=8192)
def _transitions(zone: str, probe: int) -> tuple[int, int, int]:
    """Offset at the start of a probed stretch, the instant it changes, and offset after that."""
    lo, hi = probe * _PROBE_US, (probe + 1) * _PROBE_US
    before, after = _offset_us(zone, lo), _offset_us(zone, hi)
    if before == after:
        return before, hi, after
    while hi - lo > SECOND_US:
        middle = (lo + hi) // (2 * SECOND_US) * SECOND_US
        if _offset_us(zone, middle) == before:
            lo = middle
        else:
            hi = middle
    return before, hi, after


def _offsets(zone: str, start_us: int, end_us: int) -> Iterator[tuple[int, int, int]]:
    """Stretches of equal offset, sorted, touching, and joined as far as possible."""
    begun, current = start_us, _offset_us(zone, start_us)
    for probe in range(start_us // _PROBE_US, -(-end_us // _PROBE_US)):
        _, changes_at, after = _transitions(zone, probe)
        if after != current and begun < changes_at < end_us:
            yield begun, changes_at, current
            begun, current = changes_at, after
    yield begun, end_us, current
