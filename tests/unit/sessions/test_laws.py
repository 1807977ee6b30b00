"""The laws of sessionization.md, for any evidence and any rules."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.sessions.domain import (
    Block,
    Evidence,
    Kind,
    Rules,
    derive,
    sample,
    sessions_in,
    slices_in,
)
from services.sessions.domain.incremental import reach_us
from services.sessions.domain.intervals import total, union
from tests.unit.sessions.scenes import (
    PROPERTY,
    STARTER,
    USER,
    small_evidence,
    small_rules,
    small_worlds,
)


def blocks_of(evidence: Sequence[Evidence], rules: Rules) -> list[Block]:
    return derive(USER, evidence, rules, STARTER)


def are_apart(spans: Sequence[tuple[int, int]]) -> bool:
    return all(start < end for start, end in spans) and all(
        before[1] <= after[0] for before, after in pairwise(spans)
    )


@PROPERTY
@given(small_worlds, small_rules)
def test_nothing_overlaps_and_everything_lies_inside_what_holds_it(
    evidence: list[Evidence], rules: Rules
):
    blocks = blocks_of(evidence, rules)
    assert are_apart([(one.start_us, one.end_us) for one in blocks])
    assert are_apart([(one.start_us, one.end_us) for one in sessions_in(blocks)])
    assert are_apart([(one.start_us, one.end_us) for one in slices_in(blocks)])
    for block in blocks:
        assert block.sessions[0].start_us == block.start_us
        assert block.sessions[-1].end_us == block.end_us
        assert bool(block.slices) == (block.kind is Kind.ACTIVE)
        assert bool(block.idle) == (block.kind is Kind.IDLE)


@PROPERTY
@given(small_worlds, small_rules)
def test_sessions_add_up_to_their_slices_and_stay_within_wall_time(
    evidence: list[Evidence], rules: Rules
):
    for block in blocks_of(evidence, rules):
        owned = 0
        for session in block.sessions:
            inside = [
                one for one in block.slices if session.start_us <= one.start_us < session.end_us
            ]
            assert session.active_us == sum(one.active_us for one in inside)
            assert session.active_us + session.idle_us <= session.end_us - session.start_us
            owned += len(inside)
        assert owned == len(block.slices)
        assert total(block.idle) == sum(one.idle_us for one in block.sessions)


@PROPERTY
@given(small_worlds, small_rules)
def test_idle_time_is_never_made_of_silence(evidence: list[Evidence], rules: Rules):
    evidence = [one for one in evidence if not one.is_point]
    reported = union((one.start_us, one.end_us) for one in evidence)
    for block in blocks_of(evidence, rules):
        assert total(union([*reported, *block.idle])) == total(reported)


@PROPERTY
@given(small_worlds, small_rules, st.randoms(use_true_random=False), st.data())
def test_order_repetition_and_cuts_change_nothing(
    evidence: list[Evidence], rules: Rules, random, data: st.DataObject
):
    disguised = [*evidence, *(one for one in evidence if random.random() < 0.3)]
    pieces: list[Evidence] = []
    for event in disguised:
        length = event.end_us - event.start_us
        if event.is_point or length == 0:
            pieces.append(event)
            continue
        cuts = data.draw(st.lists(st.integers(0, length), max_size=2).map(sorted))
        pieces.extend(
            sample(
                event.device,
                event.source,
                event.start_us + lo,
                hi - lo,
                facets=event.facets,
                idle=event.idle,
            )
            for lo, hi in pairwise([0, *cuts, length])
        )
    random.shuffle(pieces)
    assert blocks_of(pieces, rules) == blocks_of(evidence, rules)


@PROPERTY
@given(small_worlds, small_rules)
def test_a_grown_event_counts_as_its_union(evidence: list[Evidence], rules: Rules):
    shorter = [
        sample(
            e.device,
            e.source,
            e.start_us,
            (e.end_us - e.start_us) // 2,
            facets=e.facets,
            idle=e.idle,
        )
        for e in evidence
        if not e.is_point
    ]
    assert blocks_of([*shorter, *evidence], rules) == blocks_of(evidence, rules)


@PROPERTY
@given(small_worlds, small_evidence(horizon=200), small_rules)
def test_an_added_event_changes_only_blocks_within_its_reach(
    evidence: list[Evidence], added: Evidence, rules: Rules
):
    reach = reach_us(rules) + (rules.point_timeout_us if added.is_point else 0)
    before = blocks_of(evidence, rules)
    after = blocks_of([*evidence, added], rules)
    for old, new in ((before, after), (after, before)):
        for block in old:
            if block not in new:
                assert block.end_us >= added.start_us - reach
                assert block.start_us <= added.end_us + reach


def test_with_the_default_rules_an_added_sample_reaches_as_far_as_the_session_gap():
    rules = Rules()
    assert reach_us(rules) == rules.session_gap_us + 1


@PROPERTY
@given(small_worlds, small_evidence(), small_rules)
def test_a_session_keeps_its_id_as_long_as_it_keeps_its_start(
    evidence: list[Evidence], added: Evidence, rules: Rules
):
    before = {(one.kind, one.start_us): one.id for one in sessions_in(blocks_of(evidence, rules))}
    after = list(sessions_in(blocks_of([*evidence, added], rules)))
    assert len({one.id for one in after}) == len(after)
    for one in after:
        assert before.get((one.kind, one.start_us), one.id) == one.id
