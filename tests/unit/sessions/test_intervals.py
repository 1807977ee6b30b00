"""Interval algebra; vectors from ActivityWatch's filter_period_intersect, period_union and union."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sessions.domain.intervals import (
    Interval,
    covers,
    intersect,
    subtract,
    total,
    union,
    within,
)
from tests.unit.sessions.scenes import PROPERTY

messy = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda one: (one[0], one[0] + one[1])),
    max_size=10,
)


def instants(intervals: list[Interval]) -> set[int]:
    return {at for start, end in intervals for at in range(start, end)}


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ([(0, 60)], [(30, 90)], [(30, 60)]),
        ([(0, 30), (45, 75)], [(15, 60)], [(15, 30), (45, 60)]),
        ([(n, n + 10) for n in range(10, 60, 10)], [(25, 45)], [(25, 30), (30, 40), (40, 45)]),
        ([(0, 5), (7, 9)], [(0, 5), (7, 9)], [(0, 5), (7, 9)]),
        ([(0, 10)], [(10, 20)], []),
    ],
)
def test_intersection_has_one_piece_per_overlapping_pair(one, other, shared):
    assert intersect(one, other) == shared
    assert total(intersect(other, one)) == total(shared)


@pytest.mark.parametrize(
    ("intervals", "joined"),
    [
        ([(0, 10), (9, 19)], [(0, 19)]),
        ([(0, 10), (10, 20)], [(0, 20)]),
        ([(11, 21), (0, 10)], [(0, 10), (11, 21)]),
        ([(5, 5), (3, 1)], []),
    ],
)
def test_union_joins_what_overlaps_or_touches(intervals, joined):
    assert union(intervals) == joined


@PROPERTY
@given(messy, messy)
def test_the_algebra_is_that_of_sets_of_instants(one: list[Interval], other: list[Interval]):
    a, b = union(one), union(other)
    assert instants(a) == instants(one)
    assert instants(intersect(a, b)) == instants(one) & instants(other)
    assert instants(subtract(a, b)) == instants(one) - instants(other)
    assert union(subtract(a, b)) == subtract(a, b)
    for at in range(-1, 50):
        assert covers(a, at) == (at in instants(one))
    if b:
        assert within(a, b[0]) == intersect(a, [b[0]])
