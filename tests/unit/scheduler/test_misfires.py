"""What becomes of the moments of a schedule, however late it is looked at."""

import os
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import Invalid
from services.scheduler.domain.misfires import (
    MAX_COUNTED,
    MAX_MISSED_ROWS,
    Due,
    Missed,
    decide,
)
from services.scheduler.domain.plans import Plan, Policy, check_plan, jitter_us, next_after

SECOND = 1_000_000
HOUR = 3600 * SECOND
NOON = 1_790_000_000_000_000 // HOUR * HOUR
ID = UUID(int=7)
HOURLY = Plan("every", "3600")
PROPERTY = settings(max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "200")), deadline=None)

policies = st.builds(
    Policy,
    misfire=st.sampled_from(("skip", "fire_latest", "fire_all")),
    misfire_window_seconds=st.integers(0, 86_400),
    misfire_max=st.integers(1, 30),
    overlap=st.sampled_from(("allow_all", "skip")),
    jitter_seconds=st.sampled_from((0, 0, 30, 900)),
)
plans = st.one_of(
    st.sampled_from((1, 7, 60, 3600, 86_400)).map(lambda seconds: Plan("every", str(seconds))),
    st.sampled_from(("*/5 * * * *", "0 3 * * *", "30 2 1 * *")).map(
        lambda expression: Plan("cron", expression, "Europe/Berlin")
    ),
)


def due(
    policy: Policy, *, late_hours: float, has_live_run: bool = False, plan: Plan = HOURLY
) -> Due:
    now = NOON + round(late_hours * HOUR)
    return decide(plan, policy, ID, scheduled_for_us=NOON, now_us=now, has_live_run=has_live_run)


def hours(*numbers: int) -> tuple[int, ...]:
    return tuple(NOON + number * HOUR for number in numbers)


def test_a_punctual_moment_fires_and_the_next_follows_from_it() -> None:
    for misfire in ("skip", "fire_latest", "fire_all"):
        found = due(Policy(misfire=misfire), late_hours=0.01)
        assert found == Due(hours(0), (), (), NOON + HOUR)


def test_skip_lets_late_moments_go() -> None:
    found = due(Policy(misfire="skip"), late_hours=2.5)
    assert found == Due((), (), tuple(map(Missed, hours(0, 1, 2))), NOON + 3 * HOUR)


def test_fire_latest_catches_up_once() -> None:
    found = due(Policy(misfire_window_seconds=86_400), late_hours=2.5)
    assert found == Due(hours(2), (), tuple(map(Missed, hours(0, 1))), NOON + 3 * HOUR)


def test_fire_all_catches_up_with_the_last_ones_in_order() -> None:
    policy = Policy(
        misfire="fire_all", misfire_max=2, misfire_window_seconds=86_400, overlap="allow_all"
    )
    found = due(policy, late_hours=3.5)
    assert found == Due(hours(2, 3), (), tuple(map(Missed, hours(0, 1))), NOON + 4 * HOUR)


def test_what_is_older_than_the_window_never_fires() -> None:
    policy = Policy(
        misfire="fire_all", misfire_max=10, misfire_window_seconds=5400, overlap="allow_all"
    )
    found = due(policy, late_hours=3.5)
    assert found.fire == hours(2, 3)
    assert found.missed_count == 2


def test_a_run_that_still_goes_on_skips_the_next() -> None:
    assert due(Policy(overlap="skip"), late_hours=0, has_live_run=True).skipped == hours(0)
    assert due(Policy(overlap="allow_all"), late_hours=0, has_live_run=True).fire == hours(0)


def test_catching_up_with_skip_runs_one_at_a_time() -> None:
    policy = Policy(misfire="fire_all", misfire_window_seconds=86_400, overlap="skip")
    found = due(policy, late_hours=2)
    assert (found.fire, found.skipped) == (hours(0), hours(1, 2))


def test_many_missed_moments_share_a_row() -> None:
    found = due(Policy(), late_hours=50.5)
    assert found.fire == hours(50)
    assert found.missed == (Missed(NOON + 49 * HOUR, 50),)
    assert found.missed_count == 50


def test_a_year_of_absence_is_counted_only_so_far() -> None:
    found = due(Policy(), late_hours=24 * 365 + 0.5, plan=Plan("every", "60"))
    assert MAX_COUNTED <= found.missed_count <= MAX_COUNTED + 1440
    assert len(found.fire) == 1
    assert found.next_us == NOON + 24 * 365 * HOUR + HOUR // 2 + 60 * SECOND


@PROPERTY
@given(plans, policies, st.integers(0, 40 * 86_400 * SECOND), st.booleans())
def test_no_moment_is_lost_or_used_twice(
    plan: Plan, policy: Policy, late_us: int, has_live_run: bool
) -> None:
    first = next_after(plan, NOON)
    assert first is not None
    now = first + jitter_us(ID, first, policy) + late_us
    found = decide(plan, policy, ID, scheduled_for_us=first, now_us=now, has_live_run=has_live_run)
    used = [*found.fire, *found.skipped, *(one.scheduled_for_us for one in found.missed)]
    assert len(set(used)) == len(used)
    assert len(found.missed) <= MAX_MISSED_ROWS
    assert all(first <= moment for moment in used)
    assert all(moment + jitter_us(ID, moment, policy) <= now for moment in used)
    assert found.next_us is not None
    assert found.next_us + jitter_us(ID, found.next_us, policy) > now
    # Nothing lies between what was used last and what comes next.
    assert next_after(plan, max(used)) == found.next_us or found.missed_count >= MAX_COUNTED
    wanted = policy.misfire_max if policy.misfire == "fire_all" else 1
    assert len(found.fire) + len(found.skipped) <= wanted


@PROPERTY
@given(plans, policies, st.lists(st.integers(1, 3 * 3600 * SECOND), min_size=1, max_size=6))
def test_looking_more_often_fires_no_moment_twice(
    plan: Plan, policy: Policy, pauses: list[int]
) -> None:
    moment = next_after(plan, NOON)
    now, used = NOON, []
    for pause in pauses:
        now += pause
        if moment is None or moment + jitter_us(ID, moment, policy) > now:
            continue
        found = decide(plan, policy, ID, scheduled_for_us=moment, now_us=now, has_live_run=False)
        used += [*found.fire, *found.skipped, *(one.scheduled_for_us for one in found.missed)]
        moment = found.next_us
    assert len(set(used)) == len(used)


def test_jitter_is_the_same_everywhere_and_bounded() -> None:
    policy = Policy(jitter_seconds=60)
    first = jitter_us(ID, NOON, policy)
    assert first == jitter_us(UUID(int=7), NOON, msgspec.structs.replace(policy, priority=3))
    assert len({jitter_us(ID, NOON + hour * HOUR, policy) for hour in range(20)}) > 10
    assert all(0 <= jitter_us(ID, NOON + hour, policy) <= 60 * SECOND for hour in range(500))


@pytest.mark.parametrize("seconds", ["0", "-1", "1.5", "", "ten", "31622401", "9" * 30, "٣"])
def test_an_interval_that_is_none_is_refused(seconds: str) -> None:
    with pytest.raises(Invalid):
        check_plan(Plan("every", seconds))


def test_every_counts_from_the_epoch() -> None:
    check_plan(HOURLY)
    assert next_after(HOURLY, NOON) == NOON + HOUR
    assert next_after(HOURLY, NOON - 1) == NOON
