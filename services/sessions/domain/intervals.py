"""Algebra of half-open stretches of time `[start, end)`, in microseconds since the Unix epoch.

Lists given and returned are sorted and disjoint unless a function says otherwise.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

Interval = tuple[int, int]

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Covers what any of them covers; takes any order and overlap, joins what touches."""
    joined: list[Interval] = []
    last_start = last_end = 0
    for start, end in sorted(intervals):
        if joined and start <= last_end:
            if end > last_end:
                last_end = end
                joined[-1] = (last_start, end)
        elif start < end:
            joined.append((start, end))
            last_start, last_end = start, end
    return joined


def subtract(intervals: Sequence[Interval], removed: Sequence[Interval]) -> list[Interval]:
    """What is left of the first list where the second has nothing."""
    if not removed:
        return list(intervals)
    left: list[Interval] = []
    index = 0
    for start, end in intervals:
        cursor = start
        while index < len(removed) and removed[index][1] <= cursor:
            index += 1
        at = index
        while at < len(removed) and removed[at][0] < end:
            if removed[at][0] > cursor:
                left.append((cursor, removed[at][0]))
            cursor = removed[at][1]
            at += 1
        if cursor < end:
            left.append((cursor, end))
    return left


def intersect(one: Sequence[Interval], other: Sequence[Interval]) -> list[Interval]:
    """One piece per overlapping pair; touching intervals share nothing."""
    shared: list[Interval] = []
    i = j = 0
    while i < len(one) and j < len(other):
        start = max(one[i][0], other[j][0])
        end = min(one[i][1], other[j][1])
        if start < end:
            shared.append((start, end))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return shared


def within(intervals: Sequence[Interval], extent: Interval) -> list[Interval]:
    """The parts inside one stretch; cheap however long the list is."""
    start, end = extent
    first = bisect_right(intervals, start, key=lambda interval: interval[1])
    last = bisect_left(intervals, end, lo=first, key=lambda interval: interval[0])
    return [(max(s, start), min(e, end)) for s, e in intervals[first:last]]


def covers(intervals: Sequence[Interval], instant_us: int) -> bool:
    """Whether the instant lies inside one of them."""
    index = bisect_right(intervals, instant_us, key=lambda interval: interval[0])
    return index > 0 and instant_us < intervals[index - 1][1]


def total(intervals: Iterable[Interval]) -> int:
    """Microseconds covered."""
    return sum(end - start for start, end in intervals)
