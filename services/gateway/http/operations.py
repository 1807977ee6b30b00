"""/v1/schedules, /v1/runs, /v1/scheduler, /v1/ops: for admins."""

from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter

from chassis.identity import Principal
from protos.scheduler.v1 import scheduler_pb2 as pb
from services.gateway.accounts.ledger import Actor, Ledger
from services.gateway.auth import Caller
from services.gateway.clients import DeadLettersClient, SchedulerClient
from services.gateway.payloads.operations import (
    DeadLetterReply,
    DiscardedReply,
    DiscardRequest,
    PauseRequest,
    ReplayedReply,
    ReplayRequest,
    RunReply,
    ScheduleReply,
    StatusReply,
    TriggerRequest,
)
from services.gateway.payloads.pages import Cursor, Limit, Page, page_request

RunState = Annotated[
    Literal["queued", "running", "succeeded", "failed", "canceled", "missed", "skipped"] | None,
    QueryParameter(name="state"),
]
LetterState = Annotated[
    Literal["open", "replayed", "discarded"] | None,
    QueryParameter(name="state", description="`open` when absent"),
]
ScheduleParameter = Annotated[UUID | None, QueryParameter(name="schedule_id")]
Consumer = Annotated[str | None, QueryParameter(name="consumer", max_length=200)]


def reader(caller: Caller) -> Principal:
    """An admin who may read."""
    caller.principal.require_role("admin")
    caller.principal.require_scope("read")
    return caller.principal


def operator(caller: Caller) -> Principal:
    """An admin who may set things in motion."""
    caller.principal.require_role("admin")
    caller.principal.require_scope("jobs:write")
    return caller.principal


@get("/v1/schedules", tags=["schedules"])
async def list_schedules(
    caller: NamedDependency[Caller],
    scheduler: NamedDependency[SchedulerClient],
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[ScheduleReply]:
    """Lists schedules by name."""
    wanted = pb.ListSchedulesRequest(page=page_request(cursor, limit))
    found = await scheduler.list_schedules(reader(caller), wanted)
    return Page(
        items=[ScheduleReply.of(schedule) for schedule in found.schedules],
        next_cursor=found.page.next_cursor or None,
    )


@post("/v1/schedules/{schedule:str}/trigger", tags=["schedules"])
async def trigger_schedule(
    schedule: FromPath[str],
    caller: NamedDependency[Caller],
    scheduler: NamedDependency[SchedulerClient],
    ledger: NamedDependency[Ledger],
    data: JSONBody[TriggerRequest | None] = None,
) -> RunReply:
    """Runs a schedule's job now, beside its plan; by id or name."""
    by = operator(caller)
    args = data.args if data is not None and data.args is not None else None
    args_json = msgspec.json.encode(args).decode() if args is not None else ""
    wanted = pb.TriggerScheduleRequest(schedule=schedule, args_json=args_json)
    run = (await scheduler.trigger_schedule(by, wanted)).run
    await note(ledger, by, "schedule.triggered", schedule, run_id=run.id)
    return RunReply.of(run)


@post("/v1/schedules/{schedule:str}/pause", tags=["schedules"], status_code=200)
async def pause_schedule(
    schedule: FromPath[str],
    caller: NamedDependency[Caller],
    scheduler: NamedDependency[SchedulerClient],
    ledger: NamedDependency[Ledger],
    data: JSONBody[PauseRequest | None] = None,
) -> ScheduleReply:
    """Stops a schedule from firing; by id or name."""
    by = operator(caller)
    reason = data.reason if data is not None else ""
    wanted = pb.PauseScheduleRequest(schedule=schedule, is_paused=True, reason=reason)
    paused = await scheduler.pause_schedule(by, wanted)
    await note(ledger, by, "schedule.paused", schedule)
    return ScheduleReply.of(paused.schedule)


@post("/v1/schedules/{schedule:str}/resume", tags=["schedules"], status_code=200)
async def resume_schedule(
    schedule: FromPath[str],
    caller: NamedDependency[Caller],
    scheduler: NamedDependency[SchedulerClient],
    ledger: NamedDependency[Ledger],
) -> ScheduleReply:
    """Lets a schedule fire again; by id or name."""
    by = operator(caller)
    wanted = pb.PauseScheduleRequest(schedule=schedule, is_paused=False)
    resumed = await scheduler.pause_schedule(by, wanted)
    await note(ledger, by, "schedule.resumed", schedule)
    return ScheduleReply.of(resumed.schedule)


@get("/v1/runs", tags=["schedules"])
async def list_runs(
    caller: NamedDependency[Caller],
    scheduler: NamedDependency[SchedulerClient],
    state_: RunState = None,
    schedule_id: ScheduleParameter = None,
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[RunReply]:
    """Lists runs, newest first."""
    wanted = pb.ListRunsRequest(
        state=state_ or "",
        schedule_id=str(schedule_id) if schedule_id else "",
        page=page_request(cursor, limit),
    )
    found = await scheduler.list_runs(reader(caller), wanted)
    return Page(
        items=[RunReply.of(run) for run in found.runs],
        next_cursor=found.page.next_cursor or None,
    )


@get("/v1/runs/{run_id:uuid}", tags=["schedules"])
async def get_run(
    run_id: FromPath[UUID],
    caller: NamedDependency[Caller],
    scheduler: NamedDependency[SchedulerClient],
) -> RunReply:
    """Gives a run with every attempt."""
    found = await scheduler.get_run(reader(caller), pb.GetRunRequest(run_id=str(run_id)))
    return RunReply.of(found.run)


@get("/v1/scheduler/status", tags=["schedules"])
async def get_status(
    caller: NamedDependency[Caller], scheduler: NamedDependency[SchedulerClient]
) -> StatusReply:
    """Says how the scheduler is doing."""
    return StatusReply.of(await scheduler.get_status(reader(caller), pb.GetStatusRequest()))


@get("/v1/ops/dead-letters", tags=["operations"])
async def list_dead_letters(
    caller: NamedDependency[Caller],
    dead_letters: NamedDependency[DeadLettersClient],
    state_: LetterState = None,
    consumer: Consumer = None,
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[DeadLetterReply]:
    """Lists messages that left processing by failure, newest first."""
    wanted = pb.ListDeadLettersRequest(
        state=state_ or "", consumer=consumer or "", page=page_request(cursor, limit)
    )
    found = await dead_letters.list_dead_letters(reader(caller), wanted)
    return Page(
        items=[DeadLetterReply.of(letter) for letter in found.letters],
        next_cursor=found.page.next_cursor or None,
    )


@get("/v1/ops/dead-letters/{letter_id:uuid}", tags=["operations"])
async def get_dead_letter(
    letter_id: FromPath[UUID],
    caller: NamedDependency[Caller],
    dead_letters: NamedDependency[DeadLettersClient],
) -> DeadLetterReply:
    """Gives a dead letter with its payload."""
    wanted = pb.GetDeadLetterRequest(id=str(letter_id))
    found = await dead_letters.get_dead_letter(reader(caller), wanted)
    return DeadLetterReply.of(found.letter, has_payload=True)


@post("/v1/ops/dead-letters/replay", tags=["operations"], status_code=200)
async def replay_dead_letters(
    data: JSONBody[ReplayRequest],
    caller: NamedDependency[Caller],
    dead_letters: NamedDependency[DeadLettersClient],
    ledger: NamedDependency[Ledger],
) -> ReplayedReply:
    """Publishes dead letters again, with lineage; effects are applied once."""
    by = operator(caller)
    wanted = pb.ReplayDeadLettersRequest(
        ids=[str(letter_id) for letter_id in data.ids], is_dry_run=data.dry_run
    )
    done = await dead_letters.replay_dead_letters(by, wanted)
    if not data.dry_run:
        await note(ledger, by, "dead_letters.replayed", ids=list(done.replayed))
    return ReplayedReply(replayed=list(done.replayed), skipped=list(done.skipped))


@post("/v1/ops/dead-letters/discard", tags=["operations"], status_code=200)
async def discard_dead_letters(
    data: JSONBody[DiscardRequest],
    caller: NamedDependency[Caller],
    dead_letters: NamedDependency[DeadLettersClient],
    ledger: NamedDependency[Ledger],
) -> DiscardedReply:
    """Marks dead letters as not worth replaying."""
    by = operator(caller)
    wanted = pb.DiscardDeadLettersRequest(ids=[str(letter_id) for letter_id in data.ids])
    done = await dead_letters.discard_dead_letters(by, wanted)
    await note(ledger, by, "dead_letters.discarded", ids=list(done.discarded))
    return DiscardedReply(discarded=list(done.discarded))


async def note(
    ledger: Ledger, by: Principal, action: str, target: str = "", **detail: object
) -> None:
    """Adds to the audit log what was just done elsewhere."""
    async with ledger.begin() as entry:
        await entry.note(Actor.of(by), action, target, **detail)


HANDLERS: Final[list[HTTPRouteHandler]] = [
    list_schedules,
    trigger_schedule,
    pause_schedule,
    resume_schedule,
    list_runs,
    get_run,
    get_status,
    list_dead_letters,
    get_dead_letter,
    replay_dead_letters,
    discard_dead_letters,
]
