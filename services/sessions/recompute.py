"""Brings derived rows to what the engine says, touching only what can have changed.

Runs inside the caller's transaction, under the locks of the people concerned
(store/timelines.py). However many people a commit touches, it takes the same few statements.
"""

from collections.abc import Iterable, Mapping, Sequence
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
    RegionCrossed,
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
from services.sessions.domain.intervals import Interval
from services.sessions.messages import day_message, session_message
from services.sessions.publishers import announce_time_changed
from services.sessions.store import activity, blocks, days, members
from services.sessions.store.activity import Span
from services.sessions.store.blocks import Replacement, Window
from services.sessions.store.days import PersonDate
from services.sessions.store.timelines import Person

# Days redone together when a zone changes; bounds memory whatever the length of the history.
REROLL_DAYS: Final = 31

_count = telemetry.meter.create_counter("timeloom.sessions.recomputed", "{person}")
_duration = telemetry.meter.create_histogram("timeloom.sessions.recompute_duration", "s")


class Change(msgspec.Struct):
    """What subscribers are told about a person; nothing, when everything stayed as it was."""

    version: int
    updated: list[Session] = []
    removed: list[UUID] = []
    days: list[DayMessage] = []

    def __bool__(self) -> bool:
        return bool(self.updated or self.removed or self.days)


class _Hood(msgspec.Struct):
    """What surrounds a person's change: every block that touches some local dates, in order."""

    person: Person
    zones: ZoneHistory
    spans: Sequence[Interval]
    dates: set[date]
    window: Window
    change: Change
    blocks: list[Block] = []
    touched: set[date] = set()


class Recomputer:
    """The engine with its rules, over the store."""

    def __init__(self, *, rules: Rules, categorize: Categorize, clock: Clock) -> None:
        self._rules = rules
        self._categorize = categorize
        self._clock = clock

    async def apply(
        self,
        conn: Connection,
        changed: Mapping[Person, Sequence[Span]],
        versions: Mapping[Person, int],
    ) -> dict[Person, Change]:
        """Rederives around changed evidence; what came out different carries the new version."""
        spans = {person: affected(own, self._rules) for person, own in changed.items()}
        return await self._redo(conn, spans, versions)

    async def redo(
        self, conn: Connection, person: Person, extent: Interval, version: int
    ) -> Change:
        """Derives everything that touches a stretch anew, whether or not anything changed."""
        while True:
            try:
                return (await self._redo(conn, {person: [extent]}, {person: version}))[person]
            except RegionCrossed as crossed:
                # Stored rows are not what the engine makes; the true block reaches further.
                extent = (min(extent[0], crossed.start_us), max(extent[1], crossed.end_us))

    async def _redo(
        self,
        conn: Connection,
        spans: Mapping[Person, Sequence[Interval]],
        versions: Mapping[Person, int],
    ) -> dict[Person, Change]:
        if not spans:
            return {}
        started = self._clock.monotonic()
        zones = await members.zones_of(conn, spans)
        hoods = [
            _hood(person, own, zones[person], versions[person]) for person, own in spans.items()
        ]
        loaded = await blocks.load(conn, [hood.window for hood in hoods])
        for hood, own in zip(hoods, loaded, strict=True):
            hood.blocks = own
        await self._rederive(conn, hoods)
        await _roll_touched(conn, hoods)
        _count.add(len(hoods))
        _duration.record(self._clock.monotonic() - started)
        return {hood.person: hood.change for hood in hoods}

    async def _rederive(self, conn: Connection, hoods: Sequence[_Hood]) -> None:
        """Puts blocks and sessions right, in the store and in the hoods."""
        # All spans of a person are planned together: one block may touch several of them.
        regions = [
            (hood, region)
            for hood in hoods
            for region in plan(hood.spans, _extents(hood.blocks), self._rules)
        ]
        evidence = await activity.load(
            conn, [(hood.person, r.load_start_us, r.load_end_us) for hood, r in regions]
        )
        replacements = []
        for (hood, region), own in zip(regions, evidence, strict=True):
            new = rederive(hood.person[1], region, own, self._rules, self._categorize)
            replacements.append(_replace(hood, region, new))
        await blocks.replace(conn, [one for one in replacements if one is not None])

    async def reroll(
        self, conn: Connection, person: Person, version: int
    ) -> list[list[DayMessage]]:
        """Cuts every day anew after the person's zones changed; changed days, by the month."""
        zones = (await members.zones_of(conn, [person]))[person]
        dates = set(await days.list_dates(conn, person))
        extent = await blocks.load_reach(conn, person)
        if extent:
            dates.update(zones.dates_touching(*extent))
        ordered = sorted(dates)
        changed = []
        for start in range(0, len(ordered), REROLL_DAYS):
            part = ordered[start : start + REROLL_DAYS]
            [around] = await blocks.load(conn, [_window(person, part, zones)])
            fresh = _rolled(person, part, around, zones, version)
            written = await _write_changed(conn, fresh)
            changed.append(list(written.values()))
        return [part for part in changed if part]


def _hood(person: Person, spans: Sequence[Interval], zones: ZoneHistory, version: int) -> _Hood:
    """The local dates from the first to the last of the spans: one read for all that follows."""
    lo, hi = spans[0][0], spans[-1][1]
    dates = set(zones.dates_touching(lo, hi))
    around = _window(person, sorted(dates), zones)
    window = Window(person, min(lo, around.start_us), max(hi, around.end_us))
    return _Hood(person, zones, spans, dates, window, Change(version))


def _window(person: Person, dates: Sequence[date], zones: ZoneHistory) -> Window:
    """From the first instant of sorted dates to the last; dates that clocks skipped have none."""
    instants = [instant for day in dates for piece in zones.span_of(day) for instant in piece]
    return Window(person, min(instants, default=0), max(instants, default=0))


def _replace(hood: _Hood, region: Region, new: list[Block]) -> Replacement | None:
    """Puts `new` in place of the hood's blocks of a region; None when they are the same."""
    old = [b for b in hood.blocks if region.holds(b.start_us, b.end_us)]
    if new == old:
        return None
    upserted, removed = diff(sessions_in(old), sessions_in(new))
    hood.change.updated.extend(upserted)
    hood.change.removed.extend(session.id for session in removed)
    for start, end in [*_extents(old), *_extents(new)]:
        hood.touched.update(hood.zones.dates_touching(start, end))
    others = [b for b in hood.blocks if not region.holds(b.start_us, b.end_us)]
    hood.blocks = sorted([*others, *new], key=lambda block: block.start_us)
    starts = {block.start_us for block in new}
    known = {block.start_us: block for block in old}
    return Replacement(
        hood.person,
        gone_blocks=[block for block in old if block.start_us not in starts],
        new_blocks=[block for block in new if known.get(block.start_us) != block],
        gone_sessions=removed,
        new_sessions=upserted,
    )


async def _roll_touched(conn: Connection, hoods: Sequence[_Hood]) -> None:
    """Rolls up the dates that changed, and writes those that came out different."""
    # A block that begins or ends outside the dates that were read needs its neighbours, too.
    beyond = [hood for hood in hoods if not hood.touched <= hood.dates]
    if beyond:
        windows = [_window(hood.person, sorted(hood.touched), hood.zones) for hood in beyond]
        for hood, own in zip(beyond, await blocks.load(conn, windows), strict=True):
            hood.blocks = own
    fresh: dict[PersonDate, DayMessage] = {}
    for hood in hoods:
        dates = sorted(hood.touched)
        fresh |= _rolled(hood.person, dates, hood.blocks, hood.zones, hood.change.version)
    written = await _write_changed(conn, fresh)
    for hood in hoods:
        hood.change.days = [day for (person, _), day in written.items() if person == hood.person]


def _rolled(
    person: Person,
    dates: Sequence[date],
    around: Sequence[Block],
    zones: ZoneHistory,
    version: int,
) -> dict[PersonDate, DayMessage]:
    """The dates added up; `around` holds every block that touches them."""
    rolled: dict[PersonDate, DayMessage] = {}
    for day in dates:
        span = zones.span_of(day)
        inside = [block for block in around if _touches(block, span)]
        rolled[person, day] = day_message(roll_up(day, inside, zones), version)
    return rolled


async def _write_changed(
    conn: Connection, fresh: Mapping[PersonDate, DayMessage]
) -> dict[PersonDate, DayMessage]:
    if not fresh:
        return {}
    known = await days.load_dates(conn, fresh)
    changed = {key: day for key, day in fresh.items() if not _is_same(day, known.get(key))}
    await days.write(conn, changed)
    return changed


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


def announce(tx: Transaction, person: Person, change: Change) -> None:
    """Tells subscribers what is different; nothing when nothing is."""
    if change:
        announce_time_changed(
            tx,
            *person,
            version=change.version,
            updated=(session_message(one, str(person[1])) for one in change.updated),
            removed=change.removed,
            days=change.days,
        )
