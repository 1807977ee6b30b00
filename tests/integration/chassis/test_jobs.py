"""The suite's own jobs: dispatched at least once, reported, and done once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from nats.js.api import RetentionPolicy

from chassis.bus import Bus, OutMessage
from chassis.clock import MICROSECONDS, SystemClock
from chassis.deadletters import DeadLetters, dlq_stream
from chassis.errors import Conflict, Unavailable
from chassis.jobs import Job, JobRun, JobWorker
from chassis.subscription import PullLoop
from protos.scheduler.v1.announcements_pb2 import RunReported, WorkItem
from tests.integration.chassis.conftest import MakeOutbox, Running
from tests.integration.chassis.streams import stream
from tests.support.eventually import eventually

CLOCK = SystemClock()


@pytest.fixture
async def streams(bus: Bus) -> None:
    work = stream("WORK")
    work.retention = RetentionPolicy.WORK_QUEUE
    for config in (work, stream("REPORTS"), dlq_stream()):
        await bus.ensure_stream(config)


Working = Callable[[dict[str, Job]], AbstractAsyncContextManager[None]]


@pytest.fixture
def working(bus: Bus, streams: None, make_outbox: MakeOutbox, running: Running) -> Working:
    """``async with working({"sweep": job}):`` a replica does the jobs inside the block."""

    @asynccontextmanager
    async def run(jobs: dict[str, Job]) -> AsyncIterator[None]:
        outbox = make_outbox("REPORTS")
        worker = JobWorker(service="sample", jobs=jobs, outbox=outbox, clock=CLOCK)
        letters = DeadLetters(bus=bus, service="sample", clock=CLOCK)
        loop = PullLoop(
            bus=bus, subscription=worker.subscription(), dead_letters=letters, clock=CLOCK
        )
        stopping = asyncio.Event()
        async with running(outbox), asyncio.TaskGroup() as group:
            group.create_task(loop.run(stopping))
            try:
                yield
            finally:
                stopping.set()

    return run


async def dispatch(
    bus: Bus,
    job: str,
    *,
    args: str = "",
    run_id: str = "run-1",
    seconds: float = 30.0,
    max_runtime: float = 0.0,
) -> None:
    item = WorkItem(
        run_id=run_id,
        job=job,
        attempt=1,
        lease_token=7,
        scheduled_for_us=1_768_790_100 * MICROSECONDS,
        deadline_us=CLOCK.now_us() + round(seconds * MICROSECONDS),
        args_json=args,
        org_id="org-1",
        max_runtime_us=round(max_runtime * MICROSECONDS),
    )
    message = OutMessage(
        f"work.v1.sample.{job}", item.SerializeToString(), f"{run_id}:{item.attempt}", {}
    )
    await bus.publish([message])


async def reports(bus: Bus) -> list[RunReported]:
    last = (await bus.stream_state("REPORTS")).last_seq
    jetstream = bus.client.jetstream()
    stored = [await jetstream.get_msg("REPORTS", number) for number in range(1, last + 1)]
    return [RunReported.FromString(message.data or b"") for message in stored]


async def reported(bus: Bus, *states: str) -> bool:
    assert [report.state for report in await reports(bus)] == list(states)
    return True


async def test_a_run_is_done_and_reported_with_its_result(bus: Bus, working: Working) -> None:
    runs: list[JobRun] = []

    async def sweep(run: JobRun) -> dict[str, object]:
        runs.append(run)
        return {"swept": 3}

    async with working({"sweep": sweep}):
        await dispatch(bus, "sweep", args='{"days": 7}')
        await eventually(lambda: reported(bus, "started", "succeeded"))
    assert runs == [JobRun("run-1", 1_768_790_100 * MICROSECONDS, {"days": 7}, "org-1")]
    started, succeeded = await reports(bus)
    assert succeeded.result_json == '{"swept":3}'
    assert (succeeded.run_id, succeeded.attempt, succeeded.lease_token) == ("run-1", 1, 7)
    assert started.org_id == succeeded.org_id == "org-1"
    assert started.worker == succeeded.worker != ""
    assert started.at_us <= succeeded.at_us


async def test_a_run_that_was_reported_is_never_done_again(bus: Bus, working: Working) -> None:
    done = 0

    async def sweep(run: JobRun) -> dict[str, object]:
        nonlocal done
        done += 1
        return {}

    async with working({"sweep": sweep}):
        await dispatch(bus, "sweep")
        await eventually(lambda: reported(bus, "started", "succeeded"))
    # The queue lost its memory of the message and gets it again under the same id.
    await bus.client.jetstream().delete_stream("WORK")
    work = stream("WORK")
    work.retention = RetentionPolicy.WORK_QUEUE
    await bus.ensure_stream(work)
    async with working({"sweep": sweep}):
        await dispatch(bus, "sweep")
        await dispatch(bus, "sweep", run_id="run-2")
        await eventually(lambda: reported(bus, "started", "succeeded", "started", "succeeded"))
    assert done == 2


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (Conflict("The month is closed."), "conflict", "The month is closed."),
        (Unavailable(), "unavailable", "Something this depends on did not answer"),
        (ZeroDivisionError("by zero\nö"), "ZeroDivisionError", "by zero \\xf6"),
    ],
)
async def test_a_failure_is_reported_with_its_kind(
    bus: Bus, working: Working, error: Exception, kind: str, text: str
) -> None:
    async def sweep(run: JobRun) -> dict[str, object]:
        raise error

    async with working({"sweep": sweep}):
        await dispatch(bus, "sweep")
        await eventually(lambda: reported(bus, "started", "failed"))
    failed = (await reports(bus))[-1]
    assert failed.error_kind == kind
    assert text in failed.error_message


async def test_an_unknown_job_and_arguments_that_are_no_object_are_reported(
    bus: Bus, working: Working
) -> None:
    async def sweep(run: JobRun) -> dict[str, object]:
        return {}

    async with working({"sweep": sweep}):
        await dispatch(bus, "vanish", run_id="run-1")
        await dispatch(bus, "sweep", run_id="run-2", args="[1]")
        await eventually(lambda: reported(bus, "started", "failed", "started", "failed"))
    first, second = [report for report in await reports(bus) if report.state == "failed"]
    assert first.error_kind == "invalid"
    assert "sample.vanish" in first.error_message
    assert second.run_id == "run-2"
    assert second.error_kind == "ValidationError"


@pytest.mark.parametrize(("seconds", "max_runtime"), [(1.0, 0.0), (30.0, 0.3)])
async def test_a_run_ends_at_its_deadline_or_when_it_took_too_long(
    bus: Bus, working: Working, seconds: float, max_runtime: float
) -> None:
    ended = asyncio.Event()

    async def hang(run: JobRun) -> dict[str, object]:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return {}

    async with working({"hang": hang}):
        await dispatch(bus, "hang", seconds=seconds, max_runtime=max_runtime)
        await eventually(lambda: reported(bus, "started", "failed"), within=10)
    assert ended.is_set()
    assert (await reports(bus))[-1].error_kind == "TimeoutError"


async def test_a_run_whose_deadline_has_passed_is_not_begun(bus: Bus, working: Working) -> None:
    begun: list[Any] = []

    async def sweep(run: JobRun) -> dict[str, object]:
        begun.append(run)
        return {}

    async with working({"sweep": sweep}):
        await dispatch(bus, "sweep", seconds=-1.0)
        await eventually(lambda: reported(bus, "started", "failed"))
    assert not begun
    assert (await reports(bus))[-1].error_message == "The deadline had passed before it began."
