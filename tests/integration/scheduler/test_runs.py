"""A run from its dispatch over a real worker to its end, and what can happen on the way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import permutations
from typing import Any

import asyncpg
import pytest

from chassis.errors import Invalid, Unavailable
from chassis.ids import new_id
from chassis.jobs import JobRun
from chassis.subscription import Delivery
from protos.scheduler.v1 import scheduler_pb2 as pb
from protos.scheduler.v1.announcements_pb2 import RunChanged, RunReported, WorkItem
from services.scheduler.consumers import Consumers
from services.scheduler.dispatch import Settler
from tests.integration.scheduler.conftest import (
    CLOCK,
    SECOND,
    Installation,
    Parts,
    Scheduler,
    Worker,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

MakeWorker = Callable[..., Awaitable[Worker]]


# -- with a real worker -------------------------------------------------------------------------


async def run_of(scheduler: Scheduler, run_id: str, state: str) -> pb.Run:
    """The run, once it is in that state."""

    async def found() -> pb.Run:
        request = pb.GetRunRequest(run_id=run_id)
        run: pb.Run = (await scheduler.call(scheduler.schedules.GetRun, request)).run
        assert run.state == state
        return run

    return await eventually(found, within=20)


async def trigger(scheduler: Scheduler, schedule: str, args: str = "") -> pb.Run:
    request = pb.TriggerScheduleRequest(schedule=schedule, args_json=args)
    answer = await scheduler.call(scheduler.schedules.TriggerSchedule, request)
    run: pb.Run = answer.run
    return run


async def test_a_run_is_dispatched_done_by_a_worker_and_reported(
    installation: Installation, make_worker: MakeWorker
) -> None:
    worker = await make_worker("ingest")

    async def partitions(run: JobRun) -> dict[str, object]:
        worker.did.append(f"{run.args}")
        return {"made": 3}

    async with installation.start() as scheduler, worker.work({"partitions": partitions}):
        queued = await trigger(scheduler, "ingest.partitions", '{"days": 7}')
        assert (queued.state, list(queued.attempts)) == ("queued", [])
        run = await run_of(scheduler, queued.id, "succeeded")
        assert worker.did == ["{'days': 7}"]
        assert run.result_json == '{"made":3}'
        assert run.progress == 1.0
        (attempt,) = run.attempts
        assert attempt.worker.startswith("ingest/")
        assert 0 < attempt.started_us <= attempt.finished_us <= CLOCK.now_us()
        assert attempt.error_kind == ""


async def test_a_failing_job_is_tried_again_and_then_failed_with_its_history(
    installation: Installation, make_worker: MakeWorker
) -> None:
    worker = await make_worker("ingest")

    async def partitions(_run: JobRun) -> dict[str, object]:
        worker.did.append("tried")
        raise Unavailable(f"No room, number {len(worker.did)}.")

    async with installation.start() as scheduler, worker.work({"partitions": partitions}):
        await impatient(installation)
        queued = await trigger(scheduler, "ingest.partitions")
        run = await run_of(scheduler, queued.id, "failed")
        assert [one.error_message for one in run.attempts] == [
            f"No room, number {number}." for number in (1, 2, 3)
        ]
        assert {one.error_kind for one in run.attempts} == {"unavailable"}
        assert len(worker.did) == 3


async def impatient(installation: Installation) -> None:
    """Makes every back-off short."""
    conn = await asyncpg.connect(installation.dsn, ssl=False)
    await conn.execute("UPDATE schedules SET retry_base_seconds = 0")
    await conn.close()


async def test_a_job_that_does_not_exist_fails_at_once(
    installation: Installation, make_worker: MakeWorker
) -> None:
    worker = await make_worker("ingest")
    async with installation.start() as scheduler, worker.work({}):
        queued = await trigger(scheduler, "ingest.partitions")
        run = await run_of(scheduler, queued.id, "failed")
        assert [one.error_kind for one in run.attempts] == ["invalid"]


async def test_the_scheduler_does_its_own_upkeep_by_the_same_path(
    installation: Installation,
) -> None:
    async with installation.start() as scheduler:
        queued = await trigger(scheduler, "scheduler.retention")
        run = await run_of(scheduler, queued.id, "succeeded")
        assert run.result_json == '{"partitions":0,"inbox":0,"letters":0}'


# -- with the reports in our hands ----------------------------------------------------------------


class Reports:
    """Speaks as workers do, straight to the consumer."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.consumers = Consumers(outbox=parts.outbox, settler=Settler(lambda: 0.0), clock=CLOCK)

    async def work(self) -> list[WorkItem]:
        """Everything handed out so far, oldest first."""
        query = "SELECT payload FROM outbox WHERE stream = 'WORK' ORDER BY id"
        return [WorkItem.FromString(row["payload"]) for row in await self.parts.rows(query)]

    async def changes(self) -> list[str]:
        """The states announced so far, oldest first."""
        query = "SELECT payload FROM outbox WHERE stream = 'JOBS' ORDER BY id"
        rows = await self.parts.rows(query)
        return [RunChanged.FromString(row["payload"]).state for row in rows]

    async def hear(self, *reports: RunReported, ids: Sequence[str] = ()) -> None:
        """Delivers reports as one batch."""
        names = ids or [str(new_id()) for _ in reports]
        await self.consumers.on_reports(
            [
                Delivery(
                    message_id=name,
                    subject="reports.v1.ingest",
                    data=report.SerializeToString(),
                    type="",
                    traceparent="",
                    attempt=1,
                    stream_seq=1,
                    reply="",
                    headers={},
                )
                for name, report in zip(names, reports, strict=True)
            ]
        )

    async def run(self) -> dict[str, Any]:
        (row,) = await self.parts.rows("SELECT * FROM runs")
        return row

    async def attempts(self) -> list[dict[str, Any]]:
        return await self.parts.rows("SELECT * FROM attempts ORDER BY number")

    async def fire(self, **policy: Any) -> WorkItem:
        """Fires one schedule; what was handed out."""
        await self.parts.plan(retry_base_seconds=0, **policy)
        await self.parts.firing.fire_due()
        (item,) = await self.work()
        return item

    async def lose(self) -> None:
        """Lets the run's lease end now, and its back-off."""
        await self.parts.execute("UPDATE runs SET wake_at = now() WHERE shelf = 'live'")
        await self.parts.leases.wake_due()


@pytest.fixture
def reports(parts: Parts) -> Reports:
    return Reports(parts)


def about(item: WorkItem, state: str, at: int = 5, **more: Any) -> RunReported:
    return RunReported(
        run_id=item.run_id,
        attempt=item.attempt,
        lease_token=item.lease_token,
        org_id=item.org_id,
        state=state,
        at_us=at * SECOND,
        worker="w",
        **more,
    )


async def test_reports_move_a_run_and_its_row(reports: Reports) -> None:
    item = await reports.fire()
    await reports.hear(about(item, "started"))
    assert (await reports.run())["state"] == "running"
    assert [(one["shelf"], one["outcome"]) for one in await reports.attempts()] == [("live", "")]
    await reports.hear(about(item, "progressed", progress=0.5))
    assert (await reports.run())["progress"] == 0.5
    await reports.hear(about(item, "succeeded", 9, result_json="{}"))
    run = await reports.run()
    assert (run["state"], run["shelf"], run["wake_at"]) == ("succeeded", "day", None)
    assert [(one["shelf"], one["outcome"]) for one in await reports.attempts()] == [
        ("day", "succeeded")
    ]
    assert await reports.changes() == ["queued", "running", "running", "succeeded"]


async def test_reports_in_any_order_and_twice_give_the_same_rows(
    reports: Reports, parts: Parts
) -> None:
    seen = set()
    for order in permutations(range(3)):
        await parts.execute("TRUNCATE schedules, fires, runs, attempts, outbox, inbox")
        item = await reports.fire()
        said = [
            about(item, "started", 2),
            about(item, "progressed", 3, progress=0.3),
            about(item, "failed", 4, error_kind="invalid", error_message="no"),
        ]
        for number in (*order, *order):
            await reports.hear(said[number])
        (run,) = await parts.rows("SELECT state, shelf, attempt, progress FROM runs")
        (attempt,) = await parts.rows(
            "SELECT shelf, number, started_at, finished_at, outcome, worker, progress, error_kind,"
            " error_message FROM attempts"
        )
        seen.add((*run.values(), *attempt.values()))
    assert len(seen) == 1
    assert next(iter(seen))[:2] == ("failed", "week")


async def test_a_report_that_is_delivered_twice_takes_effect_once(reports: Reports) -> None:
    item = await reports.fire()
    started = about(item, "started")
    await reports.hear(started, started, ids=["same", "same"])
    await reports.hear(started, ids=["same"])
    assert await reports.changes() == ["queued", "running"]


async def test_a_lost_worker_is_followed_by_another_under_a_new_token(reports: Reports) -> None:
    first = await reports.fire()
    await reports.hear(about(first, "started"))
    await reports.lose()
    assert (await reports.run())["is_waiting"] is True
    await reports.lose()
    _, second = await reports.work()
    assert (second.run_id, second.attempt) == (first.run_id, 2)
    assert second.lease_token > first.lease_token
    # The lost worker was only slow. What it says is kept, and moves nothing.
    await reports.hear(about(first, "succeeded", 7))
    run = await reports.run()
    assert (run["state"], run["attempt"]) == ("queued", 2)
    await reports.hear(about(second, "started"), about(second, "succeeded", 9))
    run = await reports.run()
    assert (run["state"], run["attempt"]) == ("succeeded", 2)
    assert [(one["number"], one["outcome"]) for one in await reports.attempts()] == [
        (1, "succeeded"),
        (2, "succeeded"),
    ]
    assert await reports.changes() == ["queued", "running", "queued", "queued", "succeeded"]


async def test_a_run_whose_workers_are_all_lost_fails(reports: Reports) -> None:
    await reports.fire(max_attempts=2)
    for _ in range(3):
        await reports.lose()
    run = await reports.run()
    assert (run["state"], run["shelf"], run["attempt"]) == ("failed", "week", 2)
    assert [one["error_kind"] for one in await reports.attempts()] == ["lost", "lost"]
    assert [one["shelf"] for one in await reports.attempts()] == ["week", "week"]
    await reports.lose()
    assert len(await reports.work()) == 2


async def test_a_success_that_comes_late_corrects_a_failed_run(reports: Reports) -> None:
    item = await reports.fire(max_attempts=1)
    await reports.lose()
    assert (await reports.run())["state"] == "failed"
    await reports.hear(about(item, "succeeded"))
    run = await reports.run()
    assert (run["state"], run["shelf"]) == ("succeeded", "day")
    assert [(one["shelf"], one["outcome"]) for one in await reports.attempts()] == [
        ("day", "succeeded")
    ]
    assert await reports.changes() == ["queued", "failed", "succeeded"]


async def test_a_success_during_the_back_off_saves_the_next_attempt(reports: Reports) -> None:
    item = await reports.fire()
    await reports.lose()
    await reports.hear(about(item, "succeeded"))
    await reports.lose()
    assert (await reports.run())["state"] == "succeeded"
    assert len(await reports.work()) == 1


async def test_what_comes_after_a_failure_does_not_move_the_alarm(reports: Reports) -> None:
    item = await reports.fire()
    await reports.hear(about(item, "failed", 5))
    before = await reports.run()
    await reports.hear(about(item, "failed", 4), about(item, "progressed", 3, progress=0.7))
    after = await reports.run()
    assert (before["progress"], after["progress"]) == (0, 0.7)
    assert after["wake_at"] == before["wake_at"]


async def test_reports_that_a_stream_repeats_after_days_are_about_nothing_new(
    reports: Reports, parts: Parts
) -> None:
    item = await reports.fire()
    said = [about(item, "started"), about(item, "succeeded")]
    await reports.hear(*said, ids=["one", "two"])
    # The run is gone with its partition; a stream that was lost is refilled from 72 h of outbox.
    await parts.execute("DELETE FROM runs")
    await reports.hear(*said, ids=["one", "two"])
    with pytest.raises(Invalid):
        await reports.hear(said[0])


async def test_a_report_about_nothing_of_ours_is_refused_and_changes_nothing(
    reports: Reports,
) -> None:
    item = await reports.fire()
    unknown = about(item, "succeeded")
    unknown.run_id = str(new_id())
    foreign = about(item, "succeeded")
    foreign.org_id = str(new_id())
    forged = about(item, "succeeded")
    forged.lease_token += 1
    for report in (unknown, foreign, forged):
        with pytest.raises(Invalid):
            await reports.hear(report)
    assert (await reports.run())["state"] == "queued"
    assert await reports.attempts() == []


async def test_two_replicas_hear_of_the_same_run_at_the_same_time(
    reports: Reports, make_parts: Callable[[], Awaitable[Parts]]
) -> None:
    other = Reports(await make_parts())
    item = await reports.fire()
    async with asyncio.TaskGroup() as group:
        group.create_task(reports.hear(about(item, "started", 2)))
        group.create_task(other.hear(about(item, "progressed", 3, progress=0.4)))
    (attempt,) = await reports.attempts()
    assert attempt["progress"] == 0.4
    assert (await reports.run())["state"] == "running"
