"""What to recompute when evidence changes, so that the result equals deriving everything anew.

A change at an instant can alter presence, block borders and ownership only within `reach_us` of it,
and further only by way of blocks that reach there; so the blocks it touches are replaced whole and
all others stay. Deriving a region needs the evidence around it (to see the same gaps and idle
stretches a batch would) and, beyond that, the neighbours of points.

The caller's steps, in one transaction per user:
1. `spans = affected(changes, rules)`; read the extents of stored blocks that touch any of them.
2. `regions = plan(spans, extents, rules)`.
3. For each region: read the evidence that touches `[load_start_us, load_end_us]`, `rederive`, and
   put the result in place of every stored block inside `[start_us, end_us]`.
4. `diff` the sessions of the blocks taken out and put in, and tell subscribers.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Protocol
from uuid import UUID

import msgspec

from services.sessions.domain.evidence import Evidence
from services.sessions.domain.intervals import Interval, union
from services.sessions.domain.rules import Rules
from services.sessions.domain.sessions import Session
from services.sessions.domain.slices import Categorize
from services.sessions.domain.timeline import Block, derive


class Region(msgspec.Struct, frozen=True):
    """A stretch whose blocks are replaced; no stored block crosses its borders."""

    start_us: int
    end_us: int
    load_start_us: int
    """Evidence that touches `[load_start_us, load_end_us]` is needed to derive the region."""
    load_end_us: int

    def holds(self, start_us: int, end_us: int) -> bool:
        """Whether a stored block is to be replaced."""
        return self.start_us <= start_us and end_us <= self.end_us


def reach_us(rules: Rules) -> int:
    """How far a change of coverage can be felt, whatever the evidence around it.

    Gaps are felt over `session_gap`; a changed idle stretch lets its far end be absorbed or not,
    and that end may touch activity across a filled gap. One more microsecond takes in the last
    instant before activity that ends just there.
    """
    return max(rules.session_gap_us, rules.longest_idle_after_us + 2 * rules.fill_gap_us) + 1


class RegionCrossed(Exception):
    """Evidence outside of a region changed as well, or stored blocks were not what `derive` gives.

    Nothing may be replaced: plan all that changed at once, or a wider span when mending.
    """

    def __init__(self, start_us: int, end_us: int) -> None:
        """The part of the crossing block that could be seen."""
        super().__init__(f"block [{start_us}, {end_us}) leads out of its region")
        self.start_us = start_us
        self.end_us = end_us


class Change(Protocol):
    """Evidence that is new, grown, replaced or removed; `Evidence` itself will do."""

    @property
    def start_us(self) -> int: ...
    @property
    def end_us(self) -> int: ...
    @property
    def is_point(self) -> bool: ...


def affected(changes: Iterable[Change], rules: Rules) -> list[Interval]:
    """Spans, sorted and apart, outside of which only blocks that touch them can change.

    `changes` holds every event that was added or removed, and both versions of one that was
    replaced (of one that grew, the longer says it all); more than that is harmless.
    """
    reach = reach_us(rules)
    spans = []
    for event in changes:
        # A point also changes what the point before it is worth, and is worth time itself.
        around = reach + rules.point_timeout_us if event.is_point else reach
        spans.append((event.start_us - around, event.end_us + around))
    return union(spans)


def plan(spans: Iterable[Interval], stored: Iterable[Interval], rules: Rules) -> list[Region]:
    """Regions, sorted and apart, for the spans and the extents of the stored blocks they touch.

    Spans of evidence that changed together are planned together: a block that touches two of them,
    however far apart, is one region.

    More stored extents than those are harmless; each is widened into at most once.
    """
    extents = sorted(stored)
    widened = []
    first = 0
    for start, end in sorted(spans):
        while first < len(extents) and extents[first][1] < start:
            first += 1
        lo, hi = start, end
        for extent_start, extent_end in islice(extents, first, None):
            if extent_start > end:
                break
            lo, hi = min(lo, extent_start), max(hi, extent_end)
        widened.append((lo, hi))
    margin = reach_us(rules) + rules.point_timeout_us
    return [Region(lo, hi, lo - margin, hi + margin) for lo, hi in union(widened)]


def rederive(
    user_id: UUID,
    region: Region,
    evidence: Iterable[Evidence],
    rules: Rules,
    categorize: Categorize,
) -> list[Block]:
    """The blocks that belong in a region, given at least the evidence it asks for.

    Raises:
        RegionCrossed: a block leads out of the region.
    """
    margin = reach_us(rules)
    window = (region.start_us - margin, region.end_us + margin)
    blocks = derive(user_id, evidence, rules, categorize, window)
    inside = [b for b in blocks if b.start_us < region.end_us and region.start_us < b.end_us]
    for block in inside:
        if not region.holds(block.start_us, block.end_us):
            raise RegionCrossed(block.start_us, block.end_us)
    return inside


def diff(old: Iterable[Session], new: Iterable[Session]) -> tuple[list[Session], list[Session]]:
    """Sessions that are new or different, and sessions that are no more; both keep their order."""
    before = {session.id: session for session in old}
    after = {session.id: session for session in new}
    upserted = [session for session in after.values() if before.get(session.id) != session]
    removed = [session for session in before.values() if session.id not in after]
    return upserted, removed
