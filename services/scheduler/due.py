"""Makes runs of schedules that are due. Any number of replicas may; PostgreSQL's clock decides.

One transaction claims a batch of due schedules, writes their fires and runs, moves them to their
next moment and announces all of it, so a crash at any point leaves either nothing or everything.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Self
from uuid import UUID

import msgspec

from chassis import telemetry
from chassis.clock import MICROSECONDS, Clock
from chassis.errors import Invalid, Unavailable
from chassis.ids import new_id
from chassis.log import get_logger
from chassis.outbox import Outbox, Transaction
from chassis.postgres import Pool, connection
from chassis.retry import TRANSIENT
from services.scheduler.dispatch import REPORT_GRACE_SECONDS, hand_out
from services.scheduler.domain.misfires import Due, decide
from services.scheduler.domain.plans import Schedule, jitter_us
from services.scheduler.domain.runs import LIVE_SHELF, MISSED, QUEUED, SKIPPED, Run
from services.scheduler.publishers import announce_change
from services.scheduler.store import replicas, runs, schedules
from services.scheduler.store.schedules import Advance, Claimed

log = get_logger(__name__)

BATCH: Final = 500
# Longest sleep: how late a replica notices a schedule that another one made or resumed.
IDLE_SECONDS: Final = 1.0
# Shortest: what is due and was not given to us is in another replica's hands.
BUSY_SECONDS: Final = 0.02
TROUBLE_SECONDS: Final = 0.25
BEAT_SECONDS: Final = 5.0
# Past this without a claim a replica is not ready, and not counted.
SILENCE_SECONDS: Final = 30.0

_fires = telemetry.meter.create_counter("timeloom.scheduler.fires", "{fire}")
_lag = telemetry.meter.create_histogram("timeloom.scheduler.lag", "s")


class DueLoop:
    """Does what is due, then sleeps exactly until something else is.

    `work` does a batch and says whether more may be due; `seconds_until_due` is None when nothing
    is planned.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[bool]],
        seconds_until_due: Callable[[], Awaitable[float | None]],
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._work = work
        self._seconds_until_due = seconds_until_due
        self._idle_seconds = idle_seconds

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until stopped; outlasts a database that is away."""
        while not stopping.is_set():
            try:
                if await self._work():
                    continue
                due = await self._seconds_until_due()
            except TRANSIENT as error:
                log.warning("scheduler.waiting", error=repr(error))
                seconds = TROUBLE_SECONDS
            else:
                wanted = self._idle_seconds if due is None else max(due, BUSY_SECONDS)
                seconds = min(wanted, self._idle_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await stopping.wait()


class Firing:
    """Fires due schedules as one of the replicas."""

    def __init__(self, *, pool: Pool, outbox: Outbox, clock: Clock, batch: int = BATCH) -> None:
        self._pool = pool
        self._outbox = outbox
        self._clock = clock
        self._batch = batch
        self._replica = new_id()
        self._beat_at = -BEAT_SECONDS
        self._claimed_at = clock.monotonic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Takes this replica off the list; one that can't is forgotten in time."""
        with contextlib.suppress(*TRANSIENT):
            async with connection(self._pool) as conn:
                await replicas.leave(conn, self._replica)

    async def fire_due(self) -> bool:
        """Fires one batch; whether it was a full one."""
        async with self._outbox.begin() as tx:
            claimed = await schedules.claim_due(tx.conn, self._batch)
            if claimed:
                with telemetry.span("scheduler fire") as span:
                    span.set_attribute("timeloom.batch.size", len(claimed))
                    await _fire(tx, claimed)
            now = self._clock.monotonic()
            if now - self._beat_at >= BEAT_SECONDS:
                await replicas.beat(tx.conn, self._replica)
                self._beat_at = now
        self._claimed_at = self._clock.monotonic()
        return len(claimed) == self._batch

    async def seconds_until_due(self) -> float | None:
        """Seconds to the next fire, negative when overdue; None when nothing is planned."""
        async with connection(self._pool) as conn:
            return await schedules.seconds_until_due(conn)

    async def check(self) -> None:
        """Raises Unavailable when this replica has not been able to claim; for readiness."""
        if self._clock.monotonic() - self._claimed_at > SILENCE_SECONDS:
            raise Unavailable("Nothing could be claimed for a while.")


async def _fire(tx: Transaction, claimed: Sequence[Claimed]) -> None:
    wanted: list[tuple[Run, Schedule]] = []
    advances: dict[tuple[UUID, UUID], Advance] = {}
    for one in claimed:
        schedule = one.schedule
        due = await _decide(tx, one)
        if due is None:
            continue
        wanted += [(run, schedule) for run in _runs(schedule, due)]
        jitter = jitter_us(schedule.id, due.next_us or 0, schedule.policy)
        fire_at = None if due.next_us is None else due.next_us + jitter
        key = (schedule.org_id, schedule.id)
        advances[key] = Advance(*key, due.next_us, fire_at, due.missed_count, len(due.skipped))
    # Of what is due together, the more urgent goes first.
    wanted.sort(key=lambda pair: (-pair[0].priority, pair[0].scheduled_for_us))
    await schedules.advance(tx.conn, list(advances.values()))
    tokens = await runs.fire(tx.conn, [run for run, _ in wanted], REPORT_GRACE_SECONDS)
    now_us = claimed[0].now_us
    for run, schedule in wanted:
        if run.id not in tokens:
            log.warning("scheduler.fired_before", job=run.job, schedule_id=str(schedule.id))
            continue
        _fires.add(1, {"timeloom.run.state": run.state})
        if run.shelf == LIVE_SHELF:
            due_us = run.scheduled_for_us + jitter_us(
                schedule.id, run.scheduled_for_us, schedule.policy
            )
            _lag.record((now_us - due_us) / MICROSECONDS)
            hand_out(tx, msgspec.structs.replace(run, lease_token=tokens[run.id]), now_us)
        else:
            announce_change(tx, run)


async def _decide(tx: Transaction, one: Claimed) -> Due | None:
    """What the schedule comes to; None when its plan can't be kept, which pauses it."""
    schedule = one.schedule
    try:
        return decide(
            schedule.plan,
            schedule.policy,
            schedule.id,
            scheduled_for_us=schedule.scheduled_for_us or one.now_us,
            now_us=one.now_us,
            has_live_run=one.has_live_run,
        )
    except Invalid as error:
        # One plan that can't be computed any more must not stop the others.
        log.exception("scheduler.plan_broken", schedule_id=str(schedule.id))
        await schedules.pause(tx.conn, schedule, None, f"The plan can't be kept: {error}")
        return None


def _runs(schedule: Schedule, due: Due) -> list[Run]:
    return [
        *(_run(schedule, one.scheduled_for_us, MISSED, one.count) for one in due.missed),
        *(_run(schedule, moment, SKIPPED, 1) for moment in due.skipped),
        *(_run(schedule, moment, QUEUED, 1) for moment in due.fire),
    ]


def _run(schedule: Schedule, scheduled_for_us: int, state: str, stands_for: int) -> Run:
    policy = schedule.policy
    return Run(
        org_id=schedule.org_id,
        id=new_id(),
        schedule_id=schedule.id,
        job=schedule.job,
        scheduled_for_us=scheduled_for_us,
        state=state,
        attempt=1 if state == QUEUED else 0,
        lease_token=0,
        max_attempts=policy.max_attempts,
        retry_base_seconds=policy.retry_base_seconds,
        retry_cap_seconds=policy.retry_cap_seconds,
        start_margin_seconds=policy.start_margin_seconds,
        max_runtime_seconds=policy.max_runtime_seconds,
        args=schedule.args,
        priority=policy.priority,
        stands_for=stands_for,
    )
