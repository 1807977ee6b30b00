"""The part of a session that falls on a day; sessions themselves are never cut at midnight."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from services.sessions.domain.intervals import Interval, total, within
from services.sessions.domain.sessions import Session, context_switches
from services.sessions.domain.slices import Slice
from services.sessions.domain.timeline import Block


class Portion(msgspec.Struct, frozen=True):
    """What a session did on a day: slices if it is active, idle evidence if not; n ≥ 1 of them."""

    session: Session
    slices: list[Slice]
    idle: list[Interval]

    @property
    def start_us(self) -> int:
        return self.slices[0].start_us if self.slices else self.idle[0][0]

    @property
    def active_us(self) -> int:
        return sum(piece.end_us - piece.start_us for piece in self.slices)

    @property
    def idle_us(self) -> int:
        return total(self.idle)

    @property
    def context_switches(self) -> int:
        return context_switches(self.slices)


def portions_of(block: Block, segments: Sequence[Interval]) -> Iterator[Portion]:
    """Portions of a block's sessions in sorted, disjoint stretches of time, in order."""
    if not any(start < block.end_us and block.start_us < end for start, end in segments):
        return
    for session in block.sessions:
        idle = [run for segment in segments for run in within(block.idle, segment)]
        extent = (session.start_us, session.end_us)
        slices = [
            piece
            for segment in within(segments, extent)
            for piece in _slices_within(block.slices, segment)
        ]
        if slices or idle:
            yield Portion(session, slices, idle)


def _slices_within(slices: Sequence[Slice], extent: Interval) -> list[Slice]:
    start, end = extent
    first = bisect_right(slices, start, key=lambda piece: piece.end_us)
    last = bisect_left(slices, end, lo=first, key=lambda piece: piece.start_us)
    found = list(slices[first:last])
    if found and found[0].start_us < start:
        found[0] = msgspec.structs.replace(found[0], start_us=start)
    if found and found[-1].end_us > end:
        found[-1] = msgspec.structs.replace(found[-1], end_us=end)
    return found
