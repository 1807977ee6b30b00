"""The suite's own schedules."""

import re

import msgspec
import pytest

from services.scheduler.domain.plans import SUITE, Plan, Schedule, check_plan, next_fire
from services.scheduler.domain.system import SYSTEM_SCHEDULES, declaration


def test_everything_the_suite_needs_is_planned() -> None:
    assert {one.name for one in SYSTEM_SCHEDULES} == {
        "ingest.partitions",
        "ingest.retention",
        "sessions.verify",
        "sessions.retention",
        "gateway.retention",
        "scheduler.retention",
    }


@pytest.mark.parametrize("schedule", SYSTEM_SCHEDULES, ids=lambda one: one.name)
def test_each_can_be_kept(schedule: Schedule) -> None:
    check_plan(schedule.plan)
    assert schedule.org_id == SUITE
    # The job becomes a subject.
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", schedule.job)
    moment, fire_at = next_fire(schedule, 0)
    assert moment is not None
    assert fire_at is not None
    assert moment <= fire_at <= moment + schedule.policy.jitter_seconds * 1_000_000
    # The job must be over before the next one is due, or every other would be skipped.
    following, _ = next_fire(schedule, moment)
    assert following is not None
    longest = schedule.policy.start_margin_seconds + schedule.policy.max_runtime_seconds
    assert following - moment > longest * 1_000_000


def test_ids_are_unique_and_stay_the_same() -> None:
    assert len({one.id for one in SYSTEM_SCHEDULES}) == len(SYSTEM_SCHEDULES)
    (partitions,) = (one for one in SYSTEM_SCHEDULES if one.name == "ingest.partitions")
    # A changed id would leave the stored schedule behind and plan the job twice.
    assert str(partitions.id) == "7afb5d9a-04d2-590b-a81f-eb67784e8d0f"


def test_only_what_is_declared_counts_as_a_change() -> None:
    one = SYSTEM_SCHEDULES[0]
    same = msgspec.structs.replace(one, revision=7, is_paused=True, fire_at_us=5)
    other = msgspec.structs.replace(one, plan=Plan("every", "60"))
    assert declaration(same) == declaration(one)
    assert declaration(other) != declaration(one)
