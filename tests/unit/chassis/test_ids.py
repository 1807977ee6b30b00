"""UUIDv7: version, order, and bits that can't be guessed."""

import time
from collections import Counter
from uuid import RFC_4122, UUID

import pytest

from chassis import ids
from chassis.bus import PARTITIONS, partition_of
from chassis.ids import new_id, new_secret


class FixedTime:
    """The part of `time` that ids read, standing still until it is moved."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def time_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> FixedTime:
    clock = FixedTime(1_768_790_100_123_456_789)
    monkeypatch.setattr(ids, "time", clock)
    monkeypatch.setattr(ids, "_last_tick", 0)
    return clock


def milliseconds(value: UUID) -> int:
    return value.int >> 80


def test_ids_are_uuids_of_version_7() -> None:
    made = [new_id() for _ in range(1000)]
    assert {value.version for value in made} == {7}
    assert {value.variant for value in made} == {RFC_4122}


def test_ids_carry_the_millisecond_they_were_made_in() -> None:
    before = time.time_ns() // 1_000_000
    stamp = milliseconds(new_id())
    assert before <= stamp <= time.time_ns() // 1_000_000 + 1


def test_ids_of_one_process_sort_in_the_order_they_were_made() -> None:
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_order_holds_while_the_clock_stands_still(still: FixedTime) -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_order_holds_when_the_clock_is_set_back_a_little(still: FixedTime) -> None:
    first = new_id()
    still.now_ns -= 5_000_000_000
    second = new_id()
    assert second > first


def test_truth_wins_when_the_clock_is_set_back_a_lot(still: FixedTime) -> None:
    still.now_ns += 3600 * 1_000_000_000
    new_id()
    still.now_ns -= 3600 * 1_000_000_000
    assert milliseconds(new_id()) == still.now_ns // 1_000_000


def test_two_processes_that_share_a_tick_make_different_ids(
    still: FixedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = new_id()
    monkeypatch.setattr(ids, "_last_tick", 0)
    second = new_id()
    assert milliseconds(first) == milliseconds(second)
    assert first != second


def test_people_spread_evenly_over_partitions() -> None:
    dealt = Counter(partition_of(new_id()) for _ in range(16_000))
    assert set(dealt) == set(range(PARTITIONS))
    # 1,000 expected in each; a fair deal leaves 700 to 1,300 about once in 10^20 tries.
    assert all(700 < count < 1300 for count in dealt.values())


def test_secrets_are_long_and_differ() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(secret) >= 32 for secret in made)
