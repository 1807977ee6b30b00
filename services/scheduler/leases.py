"""Wakes live runs: a lease that ran out loses its attempt, a back-off that is over starts the next.

A run that was handed out and of which nothing final was heard by its deadline, plus the time a
report takes, is tried again under a new lease token; whoever had it can no longer move it.
"""

from typing import Final

from chassis import telemetry
from chassis.log import get_logger
from chassis.outbox import Outbox
from chassis.postgres import Pool, connection
from services.scheduler.dispatch import Settler, hand_out_again
from services.scheduler.domain.runs import Report, Run
from services.scheduler.store import runs

log = get_logger(__name__)

BATCH: Final = 500
LOST: Final = "Nothing final was heard of this attempt by its deadline."


class Leases:
    """Looks after leases and back-offs as one of the replicas."""

    def __init__(self, *, pool: Pool, outbox: Outbox, settler: Settler) -> None:
        self._pool = pool
        self._outbox = outbox
        self._settler = settler

    async def wake_due(self) -> bool:
        """Wakes one batch; whether it was a full one."""
        async with self._outbox.begin() as tx:
            held, now_us = await runs.claim_waking(tx.conn, BATCH)
            if not held:
                return False
            with telemetry.span("scheduler wake") as span:
                span.set_attribute("timeloom.batch.size", len(held))
                lost = {one.run.id: one for one in held if not one.run.is_waiting}
                reports = [_lost(one.run, now_us) for one in lost.values()]
                await self._settler.take(tx, lost, reports)
                waiting = [one.run for one in held if one.run.is_waiting]
                await hand_out_again(tx, waiting, now_us)
        for one in lost.values():
            log.warning(
                "run.lost", run_id=str(one.run.id), job=one.run.job, attempt=one.run.attempt
            )
        return len(held) == BATCH

    async def seconds_until_due(self) -> float | None:
        """Seconds to the next alarm, negative when overdue; None when no run is live."""
        async with connection(self._pool) as conn:
            return await runs.seconds_until_wake(conn)


def _lost(run: Run, now_us: int) -> Report:
    return Report(
        org_id=run.org_id,
        run_id=run.id,
        attempt=run.attempt,
        lease_token=run.lease_token,
        state="lost",
        at_us=now_us,
        error_kind="lost",
        error_message=LOST,
    )
