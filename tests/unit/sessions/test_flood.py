"""Gaps, overlaps and session windows: vectors of other engines, and where ours differs and why.

ActivityWatch `flood`: reference/time-tracking-peers.md §4.2; Flink and Kafka Streams: §4.10.
"""

import pytest

from services.sessions.domain import Block, Facets, Rules
from tests.unit.sessions.scenes import SECOND, afk, outline, owners, seen, sessions, timeline
from tests.unit.sessions.shelf import Shelf

PULSE_5 = Rules(fill_gap_us=5 * SECOND)


@pytest.mark.parametrize(
    ("events", "flooded"),
    [
        ([(0, 1, "a"), (3, 1, "b")], [("a", 0, 2), ("b", 2, 4)]),
        ([(0, 1, "a"), (3, 1, "a")], [("a", 0, 4)]),
        ([(0, 10, "a"), (15, 5, "b")], [("a", 0, 12.5), ("b", 12.5, 20)]),
        ([(0, 5, "a"), (10, 10, "b")], [("a", 0, 7.5), ("b", 7.5, 20)]),
        ([(0, 10, "a"), (15.001, 5, "b")], [("a", 0, 10), ("b", 15.001, 20.001)]),
        ([(0, 1, "a"), (6, 1, "b")], [("a", 0, 3.5), ("b", 3.5, 7)]),
        ([(0, 10, "a"), (1, 5, "b")], [("a", 0, 1), ("b", 1, 6), ("a", 6, 10)]),
        ([(0, 10, "a"), (5, 10, "a")], [("a", 0, 15)]),
        ([(0, 0, "a"), (3, 0, "b"), (6, 4, "c")], [("c", 6, 10)]),
        ([(0, 100, "b"), (99.99, 100, "a")], [("b", 0, 99.99), ("a", 99.99, 199.99)]),
        (
            [(0, 100, "a"), (10, 5, "b"), (50, 5, "a")],
            [("a", 0, 10), ("b", 10, 15), ("a", 15, 100)],
        ),
    ],
    ids=["A", "B", "F", "F'", "G", "H", "C", "D", "I", "J", "K"],
)
def test_flood_vectors_meet_in_the_middle_and_resume(events, flooded):
    evidence = [seen(start, length, Facets(app=app)) for start, length, app in events]
    assert owners(timeline(evidence, PULSE_5)) == flooded


def test_flood_vector_e_unites_what_a_watcher_repeats():
    evidence = [
        afk(0, 1, idle=True),
        afk(1, 6, idle=False),
        afk(1, 2, idle=False),
        afk(1, 11, idle=False),
        afk(11, 12, idle=True),
    ]
    assert outline(sessions(evidence, PULSE_5)) == [("active", 1, 11)]


def extents(blocks: list[Block]) -> list[tuple[float, float]]:
    return [(start, end) for _, start, end in outline(blocks)]


TOUCHING = Rules(session_gap_us=0, fill_gap_us=0)


@pytest.mark.parametrize(
    ("windows", "merged"),
    [
        ([(0, 1), (1, 2), (2, 3), (4, 5), (5, 6)], [(0, 3), (4, 6)]),
        ([(1, 1), (0, 2), (4, 7), (5, 6)], [(0, 2), (4, 7)]),
    ],
)
def test_flink_windows_merge_when_they_touch(windows, merged):
    evidence = [seen(start, end - start) for start, end in windows]
    assert extents(timeline(evidence, TOUCHING)) == merged


@pytest.mark.parametrize(
    "arrivals",
    [
        [
            ((0, 3), [(0, 3)]),
            ((5, 8), [(0, 3), (5, 8)]),
            ((10, 13), [(0, 3), (5, 8), (10, 13)]),
            ((8, 10), [(0, 3), (5, 13)]),
            ((3, 5), [(0, 13)]),
        ],
        [((0, 4), [(0, 4)]), ((3, 5), [(0, 5)]), ((4, 6), [(0, 6)])],
        [((11, 14), [(11, 14)]), ((10, 13), [(10, 14)]), ((12, 15), [(10, 15)])],
    ],
)
def test_flink_windows_merge_as_they_arrive_late(arrivals):
    shelf = Shelf(TOUCHING)
    for (start, end), merged in arrivals:
        shelf.change([seen(start, end - start)], [])
        assert extents(shelf.blocks) == merged


INSTANT = 1 / SECOND
KAFKA_5 = Rules(session_gap_us=5 * SECOND, fill_gap_us=0)


@pytest.mark.parametrize(
    ("arrivals", "merged"),
    [
        ([0, 0.5], [(0, 0.5)]),
        ([0, 5.001, 2.5], [(0, 5.001)]),
        ([0, 5.001, 5.001, 10.002, 10.002, 10.002], [(0, 0), (5.001, 5.001), (10.002, 10.002)]),
        ([10, 12, 20, 16], [(10, 20)]),
        ([0, 5.001, 7.5], [(0, 0), (5.001, 7.5)]),
    ],
)
def test_kafka_sessions_span_first_to_last_instant(arrivals, merged):
    shelf = Shelf(KAFKA_5)
    for at in arrivals:
        shelf.change([seen(at, INSTANT)], [])
    assert extents(shelf.blocks) == [
        (start, pytest.approx(end + INSTANT, abs=1e-9)) for start, end in merged
    ]
