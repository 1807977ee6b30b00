"""What the gateway may ask: lists, pauses, triggers and status, and who gets which answer."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from chassis.errors import Conflict, Forbidden, Invalid, NotFound
from chassis.ids import new_id
from protos.common.v1.types_pb2 import PageRequest
from protos.scheduler.v1 import scheduler_pb2 as pb
from services.scheduler.domain.plans import Plan
from tests.integration.scheduler.conftest import (
    ACME,
    ANA,
    CLOCK,
    RIVAL,
    Installation,
    Parts,
    Scheduler,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def scheduler(installation: Installation) -> AsyncIterator[Scheduler]:
    async with installation.start() as started:
        yield started


async def list_runs(scheduler: Scheduler, **fields: Any) -> pb.ListRunsResponse:
    who = {name: fields.pop(name) for name in ("role", "org") if name in fields}
    request = pb.ListRunsRequest(**fields)
    answer: pb.ListRunsResponse = await scheduler.call(scheduler.schedules.ListRuns, request, **who)
    return answer


async def trigger(scheduler: Scheduler, schedule: str, **who: Any) -> pb.Run:
    request = pb.TriggerScheduleRequest(schedule=schedule)
    answer = await scheduler.call(scheduler.schedules.TriggerSchedule, request, **who)
    run: pb.Run = answer.run
    return run


async def pause(scheduler: Scheduler, *, is_paused: bool, **who: Any) -> pb.Schedule:
    request = pb.PauseScheduleRequest(
        schedule="gateway.retention", is_paused=is_paused, reason="moving house"
    )
    answer = await scheduler.call(scheduler.schedules.PauseSchedule, request, **who)
    schedule: pb.Schedule = answer.schedule
    return schedule


async def test_schedules_are_listed_by_name_in_pages(scheduler: Scheduler) -> None:
    names, cursor = [], ""
    while True:
        page = PageRequest(limit=4, cursor=cursor)
        request = pb.ListSchedulesRequest(page=page)
        answer = await scheduler.call(scheduler.schedules.ListSchedules, request)
        names.append([one.name for one in answer.schedules])
        cursor = answer.page.next_cursor
        if not cursor:
            break
    assert names == [
        ["gateway.retention", "ingest.partitions", "ingest.retention", "scheduler.retention"],
        ["sessions.retention", "sessions.verify"],
    ]
    (first, *_) = (
        await scheduler.call(scheduler.schedules.ListSchedules, pb.ListSchedulesRequest())
    ).schedules
    assert (first.job, first.kind, first.expression) == (
        "gateway.retention",
        "cron",
        "30 3 * * *",
    )
    assert first.next_fire_us > CLOCK.now_us()


async def test_an_admin_does_not_see_the_upkeep_and_a_member_nothing(scheduler: Scheduler) -> None:
    request = pb.ListSchedulesRequest()
    answer = await scheduler.call(scheduler.schedules.ListSchedules, request, role="admin")
    assert not answer.schedules
    with pytest.raises(NotFound):
        await trigger(scheduler, "gateway.retention", role="admin")
    for name in ("ListSchedules", "ListRuns", "GetStatus"):
        with pytest.raises(Forbidden):
            await scheduler.call(
                getattr(scheduler.schedules, name), getattr(pb, f"{name}Request")(), role="member"
            )


async def test_only_the_operator_pauses_the_upkeep(scheduler: Scheduler) -> None:
    with pytest.raises(Forbidden):
        await pause(scheduler, is_paused=True, org=RIVAL)
    paused = await pause(scheduler, is_paused=True)
    assert (paused.is_paused, paused.next_fire_us) == (True, 0)
    assert paused.pause_reason == f"{ANA}: moving house"
    resumed = await pause(scheduler, is_paused=False)
    assert (resumed.is_paused, resumed.pause_reason) == (False, "")
    assert resumed.next_fire_us > CLOCK.now_us()
    assert resumed.missed_count == 0


async def test_a_run_is_triggered_once_at_a_time_and_shown_to_owners(scheduler: Scheduler) -> None:
    run = await trigger(scheduler, "gateway.retention", org=RIVAL)
    assert run.state == "queued"
    with pytest.raises(Conflict):
        await trigger(scheduler, "gateway.retention")
    (listed,) = (await list_runs(scheduler)).runs
    assert (listed.id, listed.job, listed.schedule_id) == (run.id, run.job, run.schedule_id)
    assert not (await list_runs(scheduler, role="admin")).runs
    with pytest.raises(NotFound):
        await scheduler.call(
            scheduler.schedules.GetRun, pb.GetRunRequest(run_id=run.id), role="admin"
        )


async def test_runs_are_listed_newest_first_by_state_and_schedule(scheduler: Scheduler) -> None:
    first = await trigger(scheduler, "gateway.retention")
    second = await trigger(scheduler, "ingest.retention")
    own = await trigger(scheduler, "scheduler.retention")

    async def done() -> bool:
        return bool((await list_runs(scheduler, state="succeeded")).runs)

    await eventually(done, within=20)
    page = await list_runs(scheduler, page=PageRequest(limit=2))
    assert [run.id for run in page.runs] == [own.id, second.id]
    rest = await list_runs(scheduler, page=PageRequest(limit=2, cursor=page.page.next_cursor))
    assert [run.id for run in rest.runs] == [first.id]
    assert rest.page.next_cursor == ""
    queued = await list_runs(scheduler, state="queued")
    assert [run.id for run in queued.runs] == [second.id, first.id]
    of_one = await list_runs(scheduler, schedule_id=first.schedule_id)
    assert [run.id for run in of_one.runs] == [first.id]
    (finished,) = (await list_runs(scheduler, state="succeeded")).runs
    assert finished.attempts[0].worker.startswith("scheduler/")


async def test_what_the_upkeep_said_is_the_operators(scheduler: Scheduler) -> None:
    run = await trigger(scheduler, "scheduler.retention")

    async def result(org: Any) -> str | None:
        request = pb.GetRunRequest(run_id=run.id)
        found = (await scheduler.call(scheduler.schedules.GetRun, request, org=org)).run
        return found.result_json if found.state == "succeeded" else None

    assert await eventually(lambda: result(ACME), within=20)
    assert await result(RIVAL) == ""


async def test_status_says_who_claims_and_what_comes_next(scheduler: Scheduler) -> None:
    await trigger(scheduler, "gateway.retention")

    async def status() -> pb.GetStatusResponse:
        request = pb.GetStatusRequest()
        answer: pb.GetStatusResponse = await scheduler.call(scheduler.schedules.GetStatus, request)
        assert answer.replicas == 1
        return answer

    found = await eventually(status)
    assert (found.queued, found.running) == (1, 0)
    assert found.lag_seconds < 5
    assert len(found.next_fires) == 6
    times = [one.next_fire_us for one in found.next_fires]
    assert times == sorted(times)


async def test_a_scheduler_that_left_is_not_counted(installation: Installation) -> None:
    for _ in range(2):
        async with installation.start() as scheduler:

            async def replicas(scheduler: Scheduler = scheduler) -> int:
                request = pb.GetStatusRequest()
                answer = await scheduler.call(scheduler.schedules.GetStatus, request)
                return int(answer.replicas)

            assert await eventually(replicas) == 1


REFUSED: list[tuple[str, Any, str]] = [
    ("ListRuns", pb.ListRunsRequest(state="sleeping"), "state"),
    ("ListRuns", pb.ListRunsRequest(schedule_id="x"), "schedule_id"),
    ("ListRuns", pb.ListRunsRequest(page=PageRequest(cursor="x")), "cursor"),
    ("ListRuns", pb.ListRunsRequest(page=PageRequest(cursor="W10=")), "cursor"),
    ("ListSchedules", pb.ListSchedulesRequest(page=PageRequest(cursor="ä")), "cursor"),
    ("GetRun", pb.GetRunRequest(run_id="x"), "run_id"),
    (
        "TriggerSchedule",
        pb.TriggerScheduleRequest(schedule="gateway.retention", args_json="[1]"),
        "args_json",
    ),
    (
        "TriggerSchedule",
        pb.TriggerScheduleRequest(schedule="gateway.retention", args_json="{"),
        "args_json",
    ),
    (
        "TriggerSchedule",
        pb.TriggerScheduleRequest(
            schedule="gateway.retention", args_json='{"a": "' + "x" * 70_000 + '"}'
        ),
        "args_json",
    ),
    (
        "PauseSchedule",
        pb.PauseScheduleRequest(schedule="gateway.retention", reason="x" * 501),
        "reason",
    ),
]


async def test_bad_input_is_refused_with_its_field(scheduler: Scheduler) -> None:
    for method, request, field in REFUSED:
        with pytest.raises(Invalid) as refused:
            await scheduler.call(getattr(scheduler.schedules, method), request)
        assert refused.value.violations[0].field == field


async def test_a_schedule_that_does_not_exist_is_not_found(scheduler: Scheduler) -> None:
    for name in ("nothing", "", "x' OR true --", "a\x00b", str(new_id())):
        with pytest.raises(NotFound):
            await trigger(scheduler, name)


async def test_without_an_operator_the_upkeep_can_not_be_stopped(
    installation: Installation,
) -> None:
    async with replace(installation, operator=None).start() as scheduler:
        with pytest.raises(Forbidden):
            await pause(scheduler, is_paused=True)


async def test_an_organization_sees_its_own_schedules_and_no_others(
    parts: Parts, installation: Installation
) -> None:
    same_database = replace(installation, dsn=parts.dsn)
    await parts.plan("mine", org=ACME, plan=Plan("every", "3600"), due_seconds_ago=None)
    await parts.plan("theirs", org=RIVAL, due_seconds_ago=None)
    async with same_database.start() as scheduler:
        request = pb.ListSchedulesRequest()
        answer = await scheduler.call(scheduler.schedules.ListSchedules, request, role="admin")
        assert [one.name for one in answer.schedules] == ["mine"]
        with pytest.raises(NotFound):
            await trigger(scheduler, "theirs")
        run = await trigger(scheduler, "mine", role="admin")
        assert not (await list_runs(scheduler, org=RIVAL, role="admin")).runs
        assert [one.id for one in (await list_runs(scheduler, role="admin")).runs] == [run.id]
        status = await scheduler.call(
            scheduler.schedules.GetStatus, pb.GetStatusRequest(), org=RIVAL, role="admin"
        )
        assert status.queued == 0
        assert [one.name for one in status.next_fires] == ["theirs"]
