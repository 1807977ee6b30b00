"""The one function: evidence and rules in, a user's timeline out (sessionization.md)."""

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

import msgspec

from services.sessions.domain.attribution import Track, attribute
from services.sessions.domain.context import contexts_of
from services.sessions.domain.evidence import Evidence
from services.sessions.domain.intervals import Interval, within
from services.sessions.domain.presence import IdleStretch, presence_of, states
from services.sessions.domain.rules import Rules
from services.sessions.domain.sessions import Kind, Session, active_session, idle_session
from services.sessions.domain.slices import Categorize, Slice, slices_of
from services.sessions.domain.strands import Strand, strands_of


class Block(msgspec.Struct, frozen=True):
    """Activity without a long pause, or one idle stretch; the unit that is recomputed."""

    kind: Kind
    start_us: int
    end_us: int
    sessions: list[Session]
    """In order, n ≥ 1; they don't overlap and lie inside the block."""
    slices: list[Slice] = []
    """In order, disjoint; none when idle. Each belongs to exactly one session."""
    idle: list[Interval] = []
    """Idle evidence, in order, disjoint; none when active."""


def derive(
    user_id: UUID,
    evidence: Iterable[Evidence],
    rules: Rules,
    categorize: Categorize,
    window: Interval | None = None,
) -> list[Block]:
    """The timeline of one user: sorted, disjoint blocks.

    Depends on the set of the evidence only, not on its order, repetition or how samples are cut.
    `window` ignores what lies outside of it, as if nothing had been reported there.
    """
    strands = strands_of(evidence, rules.point_timeout_us, window)
    presence = presence_of(strands, rules, lambda strand: categorize(strand.facets))
    extents = [(activity[0][0], activity[-1][1]) for activity in presence.blocks]
    tracks = attribute(strands, extents, rules.session_gap_us)
    blocks = [
        _active_block(user_id, activity, track, rules, categorize)
        for activity, track in zip(presence.blocks, tracks, strict=True)
    ]
    blocks.extend(_idle_blocks(user_id, presence.idle, strands))
    blocks.sort(key=lambda block: block.start_us)
    return blocks


def sessions_in(blocks: Iterable[Block]) -> Iterator[Session]:
    """All sessions, in order."""
    for block in blocks:
        yield from block.sessions


def slices_in(blocks: Iterable[Block]) -> Iterator[Slice]:
    """All slices, in order; they never overlap."""
    for block in blocks:
        yield from block.slices


def _active_block(
    user_id: UUID,
    activity: Sequence[Interval],
    track: Track,
    rules: Rules,
    categorize: Categorize,
) -> Block:
    slices = slices_of(track, activity, categorize)
    sessions = [
        active_session(user_id, run.category, slices[run.first : run.last])
        for run in contexts_of(slices, rules.switch_after_us)
    ]
    return Block(Kind.ACTIVE, activity[0][0], activity[-1][1], sessions, slices=slices)


def _idle_blocks(
    user_id: UUID, stretches: Sequence[IdleStretch], strands: Sequence[Strand]
) -> Iterator[Block]:
    if not stretches:
        return
    by_device: dict[str, list[Strand]] = {}
    for strand in strands:
        by_device.setdefault(strand.device, []).append(strand)
    idle = {device: states(own)[1] for device, own in by_device.items()}
    for stretch in stretches:
        extent = (stretch.start_us, stretch.end_us)
        devices = [device for device, runs in idle.items() if within(runs, extent)]
        session = idle_session(user_id, stretch, devices)
        yield Block(Kind.IDLE, *extent, [session], idle=stretch.runs)
