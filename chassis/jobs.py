"""Runs the suite's own jobs when the scheduler dispatches them.

A run is delivered at least once: jobs are idempotent. Its success and its inbox row commit
together, so a run that was reported is never done again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec
from opentelemetry.trace import SpanKind

from chassis import inbox, telemetry
from chassis.clock import MICROSECONDS, Clock
from chassis.deadletters import header_text
from chassis.errors import Invalid
from chassis.ids import new_id
from chassis.log import get_logger
from chassis.outbox import Outbox
from chassis.retry import TRANSIENT
from chassis.subscription import Delivery, Subscription
from protos.scheduler.v1.announcements_pb2 import RunReported, WorkItem

log = get_logger(__name__)

WORK_STREAM: Final = "WORK"
REPORTS_STREAM: Final = "REPORTS"
# An attempt is retried by the scheduler, under a new token, not by the bus.
WORK_ACK_SECONDS: Final = 30.0
MAX_ERROR_CHARACTERS: Final = 2000


class JobRun(msgspec.Struct, frozen=True):
    """What a job is told: the moment it stands for (µs, UTC) and its arguments."""

    run_id: str
    scheduled_for_us: int
    args: dict[str, object]
    org_id: str


Job = Callable[[JobRun], Awaitable[dict[str, object]]]
"""Does the work; returns a small JSON object that people see as the result."""


class JobWorker:
    """Receives the runs of one service and reports on them."""

    def __init__(
        self, *, service: str, jobs: Mapping[str, Job], outbox: Outbox, clock: Clock
    ) -> None:
        self._service = service
        self._jobs = dict(jobs)
        self._outbox = outbox
        self._clock = clock
        self._consumer = f"{service}-work-all"
        # Process identity, never host name: two containers may share one.
        self._worker = f"{service}/{new_id().hex[-12:]}"

    def subscription(self) -> Subscription:
        """One run at a time per replica; the pull loop keeps the lease alive meanwhile."""
        return Subscription(
            stream=WORK_STREAM,
            consumer=self._consumer,
            subjects=(f"work.v1.{self._service}.>",),
            handler=self._handle,
            max_batch=1,
            ack_wait_seconds=WORK_ACK_SECONDS,
        )

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            await self._do(delivery, WorkItem.FromString(delivery.data))

    async def _do(self, delivery: Delivery, item: WorkItem) -> None:
        job = self._jobs.get(item.job)
        name = f"{self._service}.{item.job}"
        parents = [delivery.traceparent]
        with telemetry.span("job run", SpanKind.CONSUMER, parents=parents) as span:
            span.set_attribute("timeloom.job", name)
            if await self._is_done(delivery):
                return
            await self._report(item, RunReported(state="started"))
            if job is None:
                report = _failure(Invalid(f"There is no job {name}."))
            else:
                report = await self._attempt(job, item)
            log.info("job.finished", job=name, run_id=item.run_id, state=report.state)
            await self._report(item, report, delivery)

    async def _is_done(self, delivery: Delivery) -> bool:
        async with self._outbox.begin() as tx:
            return await inbox.is_known(tx.conn, self._consumer, delivery)

    async def _attempt(self, job: Job, item: WorkItem) -> RunReported:
        seconds = (item.deadline_us - self._clock.now_us()) / MICROSECONDS
        if item.max_runtime_us:
            seconds = min(seconds, item.max_runtime_us / MICROSECONDS)
        if seconds <= 0:
            return _failure(TimeoutError("The deadline had passed before it began."))
        try:
            args = msgspec.json.decode(item.args_json or "{}", type=dict[str, object])
            run = JobRun(item.run_id, item.scheduled_for_us, args, item.org_id)
            async with asyncio.timeout(seconds):
                result = await job(run)
        except TRANSIENT as error:
            return _failure(error)
        except Exception as error:
            log.exception("job.failed", job=item.job, run_id=item.run_id)
            return _failure(error)
        return RunReported(state="succeeded", result_json=msgspec.json.encode(result).decode())

    async def _report(
        self, item: WorkItem, report: RunReported, done: Delivery | None = None
    ) -> None:
        report.org_id = item.org_id
        report.run_id = item.run_id
        report.attempt = item.attempt
        report.lease_token = item.lease_token
        report.worker = self._worker
        report.at_us = self._clock.now_us()
        async with self._outbox.begin() as tx:
            if done is not None and not await inbox.claim(tx.conn, self._consumer, [done]):
                return
            tx.announce(REPORTS_STREAM, f"reports.v1.{self._service}", report)


def _failure(error: BaseException) -> RunReported:
    kind = getattr(error, "kind", type(error).__name__)
    text = header_text(str(error) or kind)[:MAX_ERROR_CHARACTERS]
    return RunReported(state="failed", error_kind=kind, error_message=text)
