"""Incremental updates against batch recomputation, after every step of any history."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sessions.domain import (
    Evidence,
    RegionCrossed,
    Rules,
    affected,
    derive,
    diff,
    plan,
    rederive,
    sample,
    sessions_in,
)
from tests.unit.sessions.scenes import (
    PROPERTY,
    SLACK,
    STARTER,
    USER,
    VSCODE,
    afk,
    beat,
    outline,
    owners,
    seen,
    small_evidence,
    small_rules,
)
from tests.unit.sessions.shelf import Shelf


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[Evidence], list[int], list[int]]]:
    """Steps of what is added, and places in the shelf of what grows and what is removed."""
    step = st.tuples(
        st.lists(small_evidence(horizon=150), max_size=5),
        st.lists(st.integers(0, 40), max_size=2),
        st.lists(st.integers(0, 40), max_size=2),
    )
    return draw(st.lists(step, min_size=1, max_size=8))


@settings(PROPERTY, max_examples=2 * PROPERTY.max_examples)
@given(histories(), small_rules)
def test_stored_blocks_equal_batch_recomputation_after_every_step(history, rules: Rules):
    shelf = Shelf(rules)
    for added, growing, removing in history:
        known = shelf.evidence
        grown = [
            sample(
                e.device,
                e.source,
                e.start_us,
                e.end_us - e.start_us + 7,
                facets=e.facets,
                idle=e.idle,
            )
            for e in (known[at] for at in growing if at < len(known))
            if not e.is_point
        ]
        removed = [known[at] for at in removing if at < len(known)]
        shelf.change([*added, *grown], removed)
        assert shelf.blocks == shelf.batch()


@PROPERTY
@given(st.lists(small_evidence(), max_size=10), st.lists(small_evidence(), min_size=1), small_rules)
def test_removed_events_leave_no_trace(
    evidence: list[Evidence], extra: list[Evidence], rules: Rules
):
    shelf = Shelf(rules)
    shelf.change(evidence, [])
    before = shelf.blocks
    extra = [one for one in extra if one not in evidence]
    shelf.change(extra, [])
    shelf.change([], extra)
    assert shelf.blocks == before


@PROPERTY
@given(
    st.lists(small_evidence(horizon=150), min_size=1, max_size=12),
    small_rules,
    st.randoms(use_true_random=False),
)
def test_any_order_and_batching_of_arrival_gives_the_same_blocks(
    evidence: list[Evidence], rules: Rules, random
):
    shelf = Shelf(rules)
    arriving = [*evidence, *evidence]
    random.shuffle(arriving)
    while arriving:
        size = random.randint(1, 4)
        shelf.change(arriving[:size], [])
        arriving = arriving[size:]
    assert shelf.blocks == derive(USER, evidence, rules, STARTER)


def test_a_change_in_a_long_block_replaces_that_block_only():
    shelf = Shelf(Rules())
    morning, day, evening = seen(0, 600), seen(2_000, 36_000, VSCODE), seen(39_000, 600)
    shelf.change([morning, day, evening], [])
    shelf.replaced = 0
    shelf.change([seen(20_000, 60, SLACK)], [])
    assert shelf.replaced == 1
    assert shelf.blocks == shelf.batch()


def test_a_day_of_samples_arriving_one_by_one_replaces_one_block_each_time():
    shelf = Shelf(Rules())
    for i in range(50):
        shelf.change([seen(5 * i, 5)], [])
    assert shelf.replaced == 49
    assert outline(sessions_in(shelf.blocks)) == [("active", 0, 250)]


def test_a_point_gives_worth_to_the_one_before_it_far_from_its_own_instant():
    shelf = Shelf(Rules())
    shelf.change([seen(-300, 50), beat(0, VSCODE)], [])
    shelf.change([beat(899, VSCODE)], [])
    assert outline(shelf.blocks) == [("active", -300, 899)]
    assert shelf.blocks == shelf.batch()


AT_DESK_AGAIN = [
    afk(-3_000, -250, idle=False),
    afk(-250, 0, idle=True),
    afk(0, 5_000, idle=False),
]


def test_a_region_is_derived_with_the_runs_that_lead_into_it():
    shelf = Shelf(Rules())
    laptop = seen(-290, 690, VSCODE, idle=None)
    phone = seen(-280, 780, SLACK, idle=None, device="phone")
    shelf.change([*AT_DESK_AGAIN, laptop, phone], [])
    shelf.change([seen(4_000, 60, VSCODE)], [])
    assert shelf.replaced == 1
    assert owners(shelf.blocks)[-4][:2] == ("Slack", 0)
    assert shelf.blocks == shelf.batch()


def test_a_region_is_derived_with_the_points_that_lead_into_it():
    shelf = Shelf(Rules())
    heartbeats = [beat(at, VSCODE) for at in (-700, -200, 300)]
    phone = seen(-290, 590, SLACK, idle=None, device="phone")
    shelf.change([*AT_DESK_AGAIN, *heartbeats, phone], [])
    shelf.change([seen(4_000, 60, VSCODE)], [])
    assert shelf.replaced == 1
    assert owners(shelf.blocks)[-4] == ("Slack", 0, 300)
    assert shelf.blocks == shelf.batch()


def test_distant_changes_are_planned_apart_and_near_ones_together():
    rules = Rules()
    spans = affected([seen(0, 5), seen(400, 5), seen(10_000, 5)], rules)
    assert len(spans) == 2
    extents = [(spans[0][1] - 1, spans[1][0] + 1)]
    assert len(plan(spans, extents, rules)) == 1


def test_regions_are_no_wider_than_the_blocks_they_touch():
    rules = Rules()
    [span] = affected([seen(10_000, 5)], rules)
    inside, far = (span[0] - 7, span[0] + 1), (span[0] - 900, span[0] - 8)
    [region] = plan([span], [far, inside], rules)
    assert (region.start_us, region.end_us) == (inside[0], span[1])
    assert region.holds(*inside)
    assert not region.holds(*far)


def test_changes_that_were_not_planned_together_are_refused_rather_than_lost():
    rules = Rules()
    stored, first, second = seen(0, 100_000), seen(0, 60, SLACK), seen(100_000, 60)
    extent = (stored.start_us, stored.end_us)
    [region] = plan(affected([first], rules), [extent], rules)
    evidence = [stored, first, second, seen(100_060, 600)]
    with pytest.raises(RegionCrossed) as caught:
        rederive(USER, region, evidence, rules, STARTER)
    assert caught.value.end_us > region.end_us
    [both] = plan(affected([first, *evidence[2:]], rules), [extent], rules)
    [block] = rederive(USER, both, evidence, rules, STARTER)
    assert block.end_us == evidence[-1].end_us


def test_diff_names_what_is_new_what_changed_and_what_is_gone():
    before = derive(USER, [seen(0, 60), seen(600, 60), seen(5_000, 60)], Rules(), STARTER)
    after = derive(USER, [seen(0, 90), seen(600, 60), seen(9_000, 60)], Rules(), STARTER)
    updated, removed = diff(sessions_in(before), sessions_in(after))
    assert outline(updated) == [("active", 0, 90), ("active", 9_000, 9_060)]
    assert outline(removed) == [("active", 5_000, 5_060)]
    assert diff(sessions_in(after), sessions_in(after)) == ([], [])
