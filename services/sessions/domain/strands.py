"""Evidence in its smallest form: what each source said, as a union of stretches.

This is where repetition, splitting and order end: everything later sees only these unions, so an
event sent twice, cut in two, grown or shuffled can't change the outcome. The price is stated here
once: two events of one source with the same attributes that touch or overlap are one run, and a
run is as old as its first event.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

from services.sessions.domain.evidence import Evidence, Facets, Rank
from services.sessions.domain.intervals import Interval, union, within

_Key = tuple[str, str, Facets, Rank, bool | None]


class Strand(msgspec.Struct, frozen=True, gc=False):
    """All that one source said with the same attributes and the same idle state."""

    device: str
    source: str
    facets: Facets
    rank: Rank
    idle: bool | None
    runs: list[Interval]
    """Sorted and disjoint, n ≥ 1."""


def strands_of(
    evidence: Iterable[Evidence], point_timeout_us: int, window: Interval | None = None
) -> list[Strand]:
    """Unions of the evidence, in any order; `window` cuts them off after points got their worth."""
    said: dict[_Key, list[Interval]] = {}
    points: list[Evidence] = []
    for event in evidence:
        start, end = event.start_us, event.end_us
        if start >= end:
            if event.is_point:
                points.append(event)
            continue
        key = (event.device, event.source, event.facets, event.rank, event.idle)
        runs = said.get(key)
        if runs is None:
            said[key] = [(start, end)]
            continue
        # Samples mostly arrive in order and touch: growing the last run here keeps lists short.
        last_start, last_end = runs[-1]
        if last_start <= start <= last_end:
            if end > last_end:
                runs[-1] = (last_start, end)
        else:
            runs.append((start, end))
    for key, interval in _worth_of(points, point_timeout_us):
        said.setdefault(key, []).append(interval)
    strands = (Strand(*key, union(runs) if len(runs) > 1 else runs) for key, runs in said.items())
    return list(strands if window is None else _cut(strands, window))


def voices_of(strands: Iterable[Strand]) -> list[Strand]:
    """The strands with equal attributes joined, whatever their idle state, which becomes None."""
    voices: dict[_Key, Strand] = {}
    for one in strands:
        key = (one.device, one.source, one.facets, one.rank, None)
        runs = union([*voices[key].runs, *one.runs]) if key in voices else one.runs
        voices[key] = Strand(*key, runs)
    return list(voices.values())


def _cut(strands: Iterable[Strand], window: Interval) -> Iterator[Strand]:
    for strand in strands:
        runs = within(strand.runs, window)
        if runs:
            yield msgspec.structs.replace(strand, runs=runs)


def _worth_of(points: list[Evidence], timeout_us: int) -> Iterator[tuple[_Key, Interval]]:
    """Each point holds until the next instant of its source, if that comes in time."""
    by_source: dict[tuple[str, str], list[Evidence]] = {}
    for event in points:
        by_source.setdefault((event.device, event.source), []).append(event)
    for (device, source), events in by_source.items():
        following = dict(pairwise(sorted({event.start_us for event in events})))
        for event in events:
            start = event.start_us
            end = following.get(start)
            if end is not None and end - start < timeout_us:
                yield (device, source, event.facets, event.rank, event.idle), (start, end)
