"""Brings a person's derived rows to what the engine says, touching only what can have changed.

Runs inside the caller's transaction, under the person's lock (store/timelines.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Final
from uuid import UUID

import msgspec

from chassis import telemetry
from chassis.clock import Clock
from chassis.outbox import Transaction
from chassis.postgres import Connection
from protos.sessions.v1.sessions_pb2 import Day as DayMessage
from services.sessions.domain import (
    Block,
    Categorize,
    Region,
    Rules,
    Session,
    ZoneHistory,
    affected,
    diff,
    plan,
    rederive,
    roll_up,
    sessions_in,
)
from services.sessions.domain.intervals import DAY_US, Interval
from services.sessions.messages import date_of, day_message, session_message
from services.sessions.publishers import announce_time_changed
from services.sessions.store import activity, blocks, days, members
from services.sessions.store.activity import Span
from services.sessions.store.timelines import Person

# Days redone together when a zone changes; bounds memory whatever the length of the history.
REROLL_DAYS: Final = 31
# Longest stretch whose blocks are read at once while events are applied.
MAX_HOOD_US: Final = 14 * DAY_US

_count = telemetry.meter.create_counter("timeloom.sessions.recomputed", "{person}")
_duration = telemetry.meter.create_histogram("timeloom.sessions.recompute_duration", "s")


class Change(msgspec.Struct):
    """What subscribers are told; nothing, when everything stayed as it was."""

    updated: list[Session]
    removed: list[UUID]
    days: list[DayMessage]

    def __bool__(self) -> bool:
        return bool(self.updated or self.removed or self.days)


class Recomputer:
    """The engine with its rules, over the store."""

    def __init__(self, *, rules: Rules, categorize: Categorize, clock: Clock) -> None:
        self._rules = rules
        self._categorize = categorize
        self._clock = clock

    async def apply(
        self, conn: Connection, person: Person, changed: Sequence[Span], version: int
    ) -> Change:
        """Rederives around changed evidence; `version` marks the days that come out different."""
        return await self._redo(conn, person, affected(changed, self._rules), version)

    async def redo(
        self, conn: Connection, person: Person, extent: Interval, version: int
    ) -> Change:
        """Derives everything that touches a stretch anew, whether or not anything changed."""
        return await self._redo(conn, person, [extent], version)

    async def _redo(
        self, conn: Connection, person: Person, spans: Sequence[Interval], version: int
    ) -> Change:
        started = self._clock.monotonic()
        zones = await members.zones_of(conn, person)
        change = Change([], [], [])
        for group in _neighbours(spans):
            hood = await _hood(conn, person, group, zones)
            touched: list[Interval] = []
            for region in plan(group, _extents(hood.blocks), self._rules):
                touched += await self._replace(conn, person, region, hood, change)
            if touched:
                lo, hi = min(start for start, _ in touched), max(end for _, end in touched)
                dates = zones.dates_touching(lo, hi)
                inside = hood.blocks if hood.start_us <= lo and hi <= hood.end_us else None
                change.days += await self._roll(conn, person, dates, zones, version, inside)
        _count.add(1)
        _duration.record(self._clock.monotonic() - started)
        return change

    async def _replace(
        self, conn: Connection, person: Person, region: Region, hood: "_Hood", change: Change
    ) -> list[Interval]:
        """Puts a region right in the store and in `hood`; the extents that changed hands."""
        old = [b for b in hood.blocks if region.holds(b.start_us, b.end_us)]
        evidence = await activity.load(conn, person, region.load_start_us, region.load_end_us)
        new = rederive(person[1], region, evidence, self._rules, self._categorize)
        if new == old:
            return []
        upserted, removed = diff(sessions_in(old), sessions_in(new))
        extent = (region.start_us, region.end_us)
        await blocks.replace(conn, person, extent, new, removed=removed, upserted=upserted)
        change.updated.extend(upserted)
        change.removed.extend(session.id for session in removed)
        others = [b for b in hood.blocks if not region.holds(b.start_us, b.end_us)]
        hood.blocks = sorted([*others, *new], key=lambda block: block.start_us)
        return [*_extents(old), *_extents(new)]

    async def reroll(
        self, conn: Connection, person: Person, version: int
    ) -> list[list[DayMessage]]:
        """Cuts every day anew after the person's zones changed; changed days, by the month."""
        zones = await members.zones_of(conn, person)
        dates = set(await days.list_dates(conn, person))
        extent = await blocks.load_reach(conn, person)
        if extent:
            dates.update(zones.dates_touching(*extent))
        ordered = sorted(dates)
        changed = []
        for start in range(0, len(ordered), REROLL_DAYS):
            part = ordered[start : start + REROLL_DAYS]
            changed.append(await self._roll(conn, person, part, zones, version))
        return [part for part in changed if part]

    async def _roll(
        self,
        conn: Connection,
        person: Person,
        dates: Sequence[date],
        zones: ZoneHistory,
        version: int,
        loaded: Sequence[Block] | None = None,
    ) -> list[DayMessage]:
        """Writes those of the dates, n ≥ 1 and sorted, that came out different.

        `loaded` holds every block that touches the dates; None reads them.
        """
        spans = {day: zones.span_of(day) for day in dates}
        if loaded is None:
            loaded = await _load_around(conn, person, spans.values())
        known = await days.load(conn, person, dates[0], dates[-1])
        fresh = [
            day_message(roll_up(day, [b for b in loaded if _touches(b, span)], zones), version)
            for day, span in spans.items()
        ]
        changed = [day for day in fresh if not _is_same(day, known.get(date_of(day)))]
        written = [day for day in changed if day.session_count]
        if written:
            await days.upsert(conn, person, written)
        emptied = [date_of(day) for day in changed if not day.session_count]
        if emptied:
            await days.delete(conn, person, emptied)
        return changed


class _Hood(msgspec.Struct):
    """The blocks that touch `[start_us, end_us]`, whole, in order: local days around a change."""

    start_us: int
    end_us: int
    blocks: list[Block]


async def _hood(
    conn: Connection, person: Person, spans: Sequence[Interval], zones: ZoneHistory
) -> _Hood:
    """What is stored in the local days that the spans touch: one read serves all that follows."""
    lo, hi = spans[0][0], spans[-1][1]
    for day in (zones.date_of(lo), zones.date_of(hi)):
        for start, end in zones.span_of(day):
            lo, hi = min(lo, start), max(hi, end)
    return _Hood(lo, hi, await blocks.load(conn, person, lo, hi))


async def _load_around(
    conn: Connection, person: Person, spans: Iterable[Sequence[Interval]]
) -> list[Block]:
    instants = [instant for span in spans for piece in span for instant in piece]
    # Dates that clocks skipped have no instants.
    return await blocks.load(conn, person, min(instants), max(instants)) if instants else []


def _neighbours(spans: Sequence[Interval]) -> Iterator[list[Interval]]:
    """Sorted spans in groups that lie within days of one another; bounds what is read at once."""
    group: list[Interval] = []
    for span in spans:
        if group and (span[0] - group[-1][1] > DAY_US or span[1] - group[0][0] > MAX_HOOD_US):
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _touches(block: Block, span: Iterable[Interval]) -> bool:
    return any(block.start_us < end and start < block.end_us for start, end in span)


def _extents(pieces: Iterable[Block]) -> list[Interval]:
    return [(piece.start_us, piece.end_us) for piece in pieces]


def _is_same(day: DayMessage, stored: DayMessage | None) -> bool:
    """Whether only the version differs; a day without sessions equals one that has no row."""
    if stored is None:
        return not day.session_count
    version, day.version = day.version, stored.version
    is_same = day == stored
    day.version = version
    return is_same


def announce(tx: Transaction, person: Person, version: int, change: Change) -> None:
    """Tells subscribers what is different; nothing when nothing is."""
    if change:
        announce_time_changed(
            tx,
            *person,
            version=version,
            updated=(session_message(one, str(person[1])) for one in change.updated),
            removed=change.removed,
            days=change.days,
        )
