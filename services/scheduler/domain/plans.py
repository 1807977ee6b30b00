"""Schedules: when a job is due and what to do around it."""

import hashlib
from functools import lru_cache
from typing import Final, Literal
from uuid import UUID

import msgspec

from chassis.clock import MICROSECONDS, to_datetime, to_us
from chassis.errors import Invalid
from services.scheduler.domain import cron

SUITE: Final = UUID(int=0)
"""The organization of the suite's own schedules and runs."""
MAX_PERIOD_SECONDS: Final = 366 * 86_400

Kind = Literal["cron", "every"]
Misfire = Literal["skip", "fire_latest", "fire_all"]
Overlap = Literal["allow_all", "skip"]


class Plan(msgspec.Struct, frozen=True):
    """When. `expression` is five cron fields in `time_zone`, or whole seconds from start to start."""

    kind: Kind
    expression: str
    time_zone: str = "UTC"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What to do around a fire.

    `misfire` and its window say what becomes of fires that nobody was there for; `overlap`, what
    becomes of one whose schedule still has a run. `jitter_seconds` spreads fires, the same way for
    the same moment everywhere. A run must start within `start_margin_seconds` and then end within
    `max_runtime_seconds`, or its attempt counts as lost.
    """

    misfire: Misfire = "fire_latest"
    misfire_window_seconds: int = 3600
    misfire_max: int = 10
    overlap: Overlap = "skip"
    jitter_seconds: int = 0
    priority: int = 0
    start_margin_seconds: int = 600
    max_runtime_seconds: int = 600
    max_attempts: int = 3
    retry_base_seconds: int = 10
    retry_cap_seconds: int = 600


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A plan to run a job. `job` is `<service>.<job>`; `args` a JSON object or empty.

    `scheduled_for_us` is the next moment and `fire_at_us` when it is due, later by the jitter; both
    None when there is none. `paused_by` is None when it runs, or when the scheduler paused it.
    """

    org_id: UUID
    id: UUID
    name: str
    job: str
    plan: Plan
    policy: Policy
    args: str = ""
    revision: int = 1
    scheduled_for_us: int | None = None
    fire_at_us: int | None = None
    is_paused: bool = False
    paused_by: UUID | None = None
    pause_reason: str = ""
    missed_count: int = 0
    skipped_count: int = 0


def check_plan(plan: Plan) -> None:
    """Raises Invalid, naming the field, for a plan that can't be kept or never fires."""
    if plan.kind == "cron":
        cron.check(plan.expression, plan.time_zone)
        return
    cron.zone(plan.time_zone)
    if not plan.expression.isascii() or not plan.expression.isdecimal():
        raise Invalid.field("expression", "must be whole seconds")
    if not 1 <= int(plan.expression[:10]) <= MAX_PERIOD_SECONDS:
        raise Invalid.field("expression", f"must be 1 to {MAX_PERIOD_SECONDS} seconds")


# Many schedules share an expression, and all of them are due together.
@lru_cache(maxsize=16_384)
def next_after(plan: Plan, after_us: int) -> int | None:
    """The first moment strictly after `after_us`; None when there is none within 50 years.

    `every` counts from the Unix epoch, so that each replica and each restart finds the same
    moments.

    Raises:
        Invalid: the plan can't be kept, for example because its zone is no longer known.
    """
    if plan.kind == "every":
        period = int(plan.expression) * MICROSECONDS
        return (after_us // period + 1) * period
    found = cron.next_after(plan.expression, plan.time_zone, to_datetime(after_us))
    return None if found is None else to_us(found)


def jitter_us(schedule_id: UUID, scheduled_for_us: int, policy: Policy) -> int:
    """How much later than its moment a fire is due: 0 to the policy's jitter."""
    if policy.jitter_seconds == 0:
        return 0
    seed = hashlib.sha256(schedule_id.bytes + scheduled_for_us.to_bytes(8, "big", signed=True))
    return int.from_bytes(seed.digest()[:8], "big") % (policy.jitter_seconds * MICROSECONDS + 1)


def next_fire(schedule: Schedule, after_us: int) -> tuple[int, int] | tuple[None, None]:
    """The next moment after an instant and when it is due; Nones when there is none."""
    moment = next_after(schedule.plan, after_us)
    if moment is None:
        return None, None
    return moment, moment + jitter_us(schedule.id, moment, schedule.policy)
