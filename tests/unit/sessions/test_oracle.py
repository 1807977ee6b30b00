"""The engine against a slow reading of the same specification."""

from collections.abc import Sequence
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from services.sessions.domain import Evidence, Rules, Slice, derive, slices_in
from services.sessions.domain.context import contexts_of
from tests.unit.sessions.reading import Owned, Reading
from tests.unit.sessions.scenes import NOTHING, PROPERTY, STARTER, USER, small_rules, small_worlds


@PROPERTY
@given(small_worlds, small_rules)
def test_blocks_and_slices_are_those_of_the_slow_reading(evidence: list[Evidence], rules: Rules):
    blocks = derive(USER, evidence, rules, STARTER)
    reading = Reading(evidence, rules, STARTER)
    assert [(b.kind.value, b.start_us, b.end_us) for b in blocks] == reading.blocks()
    slices = [Owned(s.start_us, s.end_us, s.facets, s.device) for s in slices_in(blocks)]
    assert slices == reading.owned()


def _absorbed_slowly(slices: Sequence[Slice], switch_after: int) -> list[tuple[str, int, int]]:
    """Category, first slice and the one after the last, of each run; rescans after every step."""
    runs: list[list[Slice]] = [list(same) for _, same in groupby(slices, lambda one: one.category)]

    def time(run: list[Slice]) -> int:
        return sum(one.end_us - one.start_us for one in run)

    def category(run: list[Slice]) -> str:
        names = list(dict.fromkeys(one.category for one in run))
        return max(names, key=lambda name: time([one for one in run if one.category == name]))

    while len(runs) > 1:
        length, at = min((time(run), index) for index, run in enumerate(runs))
        if length >= switch_after:
            break
        left, right = runs[at - 1] if at else None, runs[at + 1] if at + 1 < len(runs) else None
        if left and right and category(left) == category(right):
            runs[at - 1 : at + 2] = [left + runs[at] + right]
        elif left and (not right or time(left) >= time(right)):
            runs[at - 1 : at + 1] = [left + runs[at]]
        elif right:
            runs[at : at + 2] = [runs[at] + right]
        same = groupby(runs, category)
        runs = [[one for run in group for one in run] for _, group in same]
    found, first = [], 0
    for run in runs:
        found.append((category(run), first, first + len(run)))
        first += len(run)
    return found


@settings(PROPERTY, max_examples=10 * PROPERTY.max_examples)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from("dcm")), min_size=1, max_size=14),
    st.integers(3, 15),
)
def test_contexts_are_those_of_absorbing_one_run_at_a_time(
    lengths: list[tuple[int, str]], switch_after: int
):
    slices, cursor = [], 0
    for length, category in lengths:
        slices.append(Slice(cursor, cursor + length, NOTHING, category, "d1"))
        cursor += length
    runs = [(run.category, run.first, run.last) for run in contexts_of(slices, switch_after)]
    assert runs == _absorbed_slowly(slices, switch_after)
