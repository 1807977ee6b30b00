"""What the scheduler says on the bus, and the streams it owns."""

from typing import Final

from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig

from chassis.bus import Bus
from chassis.clock import MICROSECONDS
from chassis.deadletters import dlq_stream
from chassis.jobs import REPORTS_STREAM, WORK_STREAM
from chassis.outbox import Transaction
from protos.scheduler.v1.announcements_pb2 import RunChanged, WorkItem
from services.scheduler.domain.plans import SUITE
from services.scheduler.domain.runs import Run

JOBS_STREAM: Final = "JOBS"
STREAMS: Final = (WORK_STREAM, JOBS_STREAM, REPORTS_STREAM)
"""The streams this service publishes to through its outbox."""
_HOUR_SECONDS: Final = 3600.0
_GIBIBYTE: Final = 1024**3


async def declare_streams(bus: Bus) -> None:
    """Creates the streams this service owns, or brings them up to date."""
    for config in (_work(), _facts(JOBS_STREAM, "jobs"), _facts(REPORTS_STREAM, "reports")):
        await bus.ensure_stream(config)
    await bus.ensure_stream(dlq_stream())


def _work() -> StreamConfig:
    """A queue: what a service acknowledged is gone. When it is full, work waits in the outbox."""
    return StreamConfig(
        name=WORK_STREAM,
        subjects=["work.v1.>"],
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        max_age=72 * _HOUR_SECONDS,
        max_msgs=1_000_000,
        max_bytes=_GIBIBYTE,
        duplicate_window=120,
        allow_atomic=True,
        allow_direct=True,
    )


def _facts(stream: str, subject: str) -> StreamConfig:
    return StreamConfig(
        name=stream,
        subjects=[f"{subject}.v1.>"],
        max_age=72 * _HOUR_SECONDS,
        max_bytes=_GIBIBYTE,
        duplicate_window=120,
        allow_atomic=True,
        allow_direct=True,
    )


def announce_work(tx: Transaction, run: Run, now_us: int) -> None:
    """Hands out the run's latest attempt, dispatched at `now_us` by PostgreSQL's clock."""
    service, _, job = run.job.partition(".")
    lease_seconds = run.start_margin_seconds + run.max_runtime_seconds
    item = WorkItem(
        run_id=str(run.id),
        job=job,
        attempt=run.attempt,
        lease_token=run.lease_token,
        scheduled_for_us=run.scheduled_for_us,
        deadline_us=now_us + lease_seconds * MICROSECONDS,
        max_runtime_us=run.max_runtime_seconds * MICROSECONDS,
        args_json=run.args,
        org_id="" if run.org_id == SUITE else str(run.org_id),
    )
    tx.announce(WORK_STREAM, f"work.v1.{service}.{job}", item)


def announce_change(tx: Transaction, run: Run) -> None:
    """Says how the run is now."""
    is_own = run.org_id == SUITE
    change = RunChanged(
        run_id=str(run.id),
        schedule_id=str(run.schedule_id or ""),
        job=run.job,
        state=run.state,
        org_id="" if is_own else str(run.org_id),
        attempt=run.attempt,
        scheduled_for_us=run.scheduled_for_us,
        progress=run.progress,
    )
    tx.announce(JOBS_STREAM, f"jobs.v1.{'system' if is_own else run.org_id}", change)
