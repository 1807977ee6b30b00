"""Which moments of a schedule that is due become runs, and which were missed."""

from collections import deque
from collections.abc import Iterator
from typing import Final
from uuid import UUID

import msgspec

from chassis.clock import MICROSECONDS
from services.scheduler.domain.plans import Plan, Policy, jitter_us, next_after

# Later than this a fire was missed, whatever the policy says; also keeps catching up short.
MAX_WINDOW_SECONDS: Final = 86_400
# What `skip` still takes as punctual: a restart in between is no misfire.
PUNCTUAL_SECONDS: Final = 60
# Missed moments that get a row each; more share one.
MAX_MISSED_ROWS: Final = 20
# Missed moments before the window are counted up to here, so that a year of absence is no long
# computation; the count then means "at least".
MAX_COUNTED: Final = 100
# Keeps `every` from walking through a day of seconds.
MAX_WALKED: Final = 1440


class Missed(msgspec.Struct, frozen=True):
    """A moment that passed without a run, standing for `count` ≥ 1 of them."""

    scheduled_for_us: int
    count: int = 1


class Due(msgspec.Struct, frozen=True):
    """What a due schedule comes to. Moments are sorted; `next_us` None means never again."""

    fire: tuple[int, ...]
    skipped: tuple[int, ...]
    missed: tuple[Missed, ...]
    next_us: int | None

    @property
    def missed_count(self) -> int:
        """Moments missed, at least."""
        return sum(one.count for one in self.missed)


def decide(
    plan: Plan,
    policy: Policy,
    schedule_id: UUID,
    *,
    scheduled_for_us: int,
    now_us: int,
    has_live_run: bool,
) -> Due:
    """What becomes of every moment from `scheduled_for_us` to `now_us`, both included.

    The next moment is computed from the moments themselves, never from `now_us`, so that fires
    don't drift.
    """
    start, early = _enter_window(plan, policy, scheduled_for_us, now_us)
    wanted = policy.misfire_max if policy.misfire == "fire_all" else 1
    fire: deque[int] = deque()
    missed = list(early)
    next_us: int | None = None
    for moment in _moments(plan, start):
        if moment + jitter_us(schedule_id, moment, policy) > now_us:
            next_us = moment
            break
        fire.append(moment)
        if len(fire) > wanted:
            missed.append(fire.popleft())
    run, skipped = _overlap(policy, tuple(fire), has_live_run=has_live_run)
    return Due(run, skipped, _rows(missed), next_us)


def _enter_window(
    plan: Plan, policy: Policy, scheduled_for_us: int, now_us: int
) -> tuple[int | None, list[int]]:
    """The first moment young enough to fire, None when there is none, and the missed before it."""
    window = min(policy.misfire_window_seconds, MAX_WINDOW_SECONDS)
    if policy.misfire == "skip":
        window = min(window, PUNCTUAL_SECONDS)
    if plan.kind == "every":
        window = min(window, int(plan.expression) * MAX_WALKED)
    horizon = now_us - (window + policy.jitter_seconds) * MICROSECONDS
    if scheduled_for_us >= horizon:
        return scheduled_for_us, []
    early: list[int] = []
    for moment in _moments(plan, scheduled_for_us):
        if moment >= horizon or len(early) == MAX_COUNTED:
            break
        early.append(moment)
    return next_after(plan, horizon - 1), early


def _moments(plan: Plan, first_us: int | None) -> Iterator[int]:
    moment = first_us
    while moment is not None:
        yield moment
        moment = next_after(plan, moment)


def _overlap(
    policy: Policy, fire: tuple[int, ...], *, has_live_run: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if policy.overlap == "allow_all":
        return fire, ()
    free = 0 if has_live_run else 1
    return fire[:free], fire[free:]


def _rows(missed: list[int]) -> tuple[Missed, ...]:
    if len(missed) <= MAX_MISSED_ROWS:
        return tuple(Missed(moment) for moment in missed)
    return (Missed(missed[-1], len(missed)),)
