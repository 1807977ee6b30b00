"""When somebody was there: activity and idleness as unions over all sources (steps 2, 4 and 5)."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import msgspec

from services.sessions.domain.intervals import Interval, covers, subtract, union
from services.sessions.domain.rules import Rules
from services.sessions.domain.strands import Strand


class IdleStretch(msgspec.Struct, frozen=True):
    """Idle evidence without activity between, its silences no longer than `fill_gap`."""

    runs: list[Interval]
    activities_before: int
    """How many active stretches precede it."""

    @property
    def start_us(self) -> int:
        return self.runs[0][0]

    @property
    def end_us(self) -> int:
        return self.runs[-1][1]


class Presence(msgspec.Struct, frozen=True):
    """The outline of a timeline, in order of time."""

    blocks: list[list[Interval]]
    """Active stretches of each block, gaps up to `fill_gap` closed; n ≥ 1 each."""
    idle: list[IdleStretch]
    """Stretches long enough to end a block."""


def presence_of(
    strands: Sequence[Strand], rules: Rules, categorize: Callable[[Strand], str]
) -> Presence:
    """Any sign of input makes an instant active; else any sign of none makes it idle.

    `categorize` is asked only when the rules set idle thresholds by category.
    """
    active, idle = states(strands)
    idle_after_us = _idle_thresholds(strands, rules, categorize)
    long: list[IdleStretch] = []
    absorbed: list[Interval] = []
    for stretch in _stretches(idle, active, rules.fill_gap_us):
        before = stretch.activities_before
        reach_back = stretch.start_us - active[before - 1][1] if before else None
        reach_on = active[before][0] - stretch.end_us if before < len(active) else None
        is_after_activity = reach_back is not None and reach_back <= rules.fill_gap_us
        limit_us = (
            idle_after_us(active[before - 1][1]) if is_after_activity else rules.idle_after_us
        )
        if stretch.end_us - stretch.start_us >= limit_us:
            long.append(stretch)
        elif is_after_activity and reach_on is not None and reach_on <= rules.fill_gap_us:
            absorbed.extend(stretch.runs)
    present = union(active + absorbed) if absorbed else active
    return Presence(_grouped(present, long, rules), long)


def states(strands: Iterable[Strand]) -> tuple[list[Interval], list[Interval]]:
    """Active and idle time of a set of strands; they never overlap."""
    by_state: dict[bool | None, list[Interval]] = {False: [], True: [], None: []}
    for strand in strands:
        by_state[strand.idle].extend(strand.runs)
    seen, unseen, unknown = union(by_state[False]), union(by_state[True]), union(by_state[None])
    presumed = subtract(unknown, unseen)
    active = union(seen + presumed) if presumed else seen
    return active, subtract(unseen, seen)


def _stretches(idle: list[Interval], active: list[Interval], fill_gap_us: int) -> list[IdleStretch]:
    starts = [start for start, _ in active]
    stretches: list[IdleStretch] = []
    for run in idle:
        before = bisect_left(starts, run[0])
        last = stretches[-1] if stretches else None
        if last and last.activities_before == before and run[0] - last.end_us <= fill_gap_us:
            last.runs.append(run)
        else:
            stretches.append(IdleStretch([run], before))
    return stretches


def _grouped(
    activity: list[Interval], long_idle: list[IdleStretch], rules: Rules
) -> list[list[Interval]]:
    """Blocks of active stretches; a long idle stretch parts what a short gap would join."""
    blocks: list[list[Interval]] = []
    if not activity:
        return blocks
    idle_starts = [stretch.start_us for stretch in long_idle]
    block: list[Interval] = []
    begun, reached = activity[0]
    for start, end in islice(activity, 1, None):
        gap = start - reached
        ends_block = gap > rules.session_gap_us or _any_within(idle_starts, reached, start)
        if ends_block or gap > rules.fill_gap_us:
            block.append((begun, reached))
            begun = start
            if ends_block:
                blocks.append(block)
                block = []
        reached = end
    block.append((begun, reached))
    return [*blocks, block]


def _any_within(instants: list[int], start_us: int, end_us: int) -> bool:
    """Whether a sorted instant lies in the half-open stretch."""
    return bool(instants) and bisect_left(instants, start_us) < bisect_left(instants, end_us)


def _idle_thresholds(
    strands: Sequence[Strand], rules: Rules, categorize: Callable[[Strand], str]
) -> Callable[[int], int]:
    """The threshold for idleness that follows activity ending at an instant.

    Whatever was in front then decides; of several, the most patient category that has a threshold
    of its own. Looking at evidence rather than at slices keeps the rule local: slices depend on
    blocks, and blocks depend on this.
    """
    if not rules.idle_after_by_category_us:
        return lambda _: rules.idle_after_us
    runs: dict[int, list[Interval]] = {}
    for strand in strands:
        own_us = rules.own_idle_after_us(categorize(strand))
        if own_us is not None:
            runs.setdefault(own_us, []).extend(strand.runs)
    by_patience = [(limit_us, union(runs[limit_us])) for limit_us in sorted(runs, reverse=True)]

    def threshold_us(active_until_us: int) -> int:
        for limit_us, covered in by_patience:
            if covers(covered, active_until_us - 1):
                return limit_us
        return rules.idle_after_us

    return threshold_us
