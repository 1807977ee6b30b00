"""SchedulerService: schedules, their runs, and how the scheduler is doing."""

from typing import Final
from uuid import UUID

import msgspec

from chassis.errors import Conflict, Invalid, NotFound
from chassis.ids import new_id
from chassis.outbox import Outbox, Transaction
from chassis.postgres import Connection, Pool, connection
from chassis.rpc import Context, Server
from protos.scheduler.v1 import scheduler_pb2 as pb
from protos.scheduler.v1.scheduler_pb2_grpc import (
    SchedulerServiceServicer,
    add_SchedulerServiceServicer_to_server,
)
from services.scheduler.dispatch import REPORT_GRACE_SECONDS, hand_out
from services.scheduler.domain.plans import Schedule, next_fire
from services.scheduler.domain.runs import QUEUED, STATES, Run
from services.scheduler.rpc import pages
from services.scheduler.rpc.access import Access, Caller
from services.scheduler.rpc.messages import run_message, schedule_message
from services.scheduler.store import attempts, history, replicas, runs, schedules

MAX_ARGS_BYTES: Final = 64 * 1024
MAX_REASON_CHARACTERS: Final = 500
REPLICA_SECONDS: Final = 30.0
NEXT_FIRES: Final = 10
_BEFORE_ALL: Final = ("", UUID(int=0))


class SchedulerServicer(SchedulerServiceServicer):
    """For admins and owners; `rpc/access.py` says who sees what."""

    def __init__(self, *, pool: Pool, outbox: Outbox, access: Access) -> None:
        self._pool = pool
        self._outbox = outbox
        self._access = access

    def register(self, server: Server) -> str:
        """Adds this servicer and names its service."""
        add_SchedulerServiceServicer_to_server(self, server)
        return "timeloom.scheduler.v1.SchedulerService"

    async def ListSchedules(
        self, request: pb.ListSchedulesRequest, context: Context
    ) -> pb.ListSchedulesResponse:
        caller = self._access.caller()
        limit = pages.limit_of(request.page)
        place = pages.after(request.page, tuple[str, UUID]) or _BEFORE_ALL
        async with connection(self._pool) as conn:
            found = await schedules.list_schedules(conn, caller.orgs, place, limit + 1)
        page = found[:limit]
        end = (page[-1].name, page[-1].org_id) if len(found) > limit else None
        return pb.ListSchedulesResponse(
            schedules=[schedule_message(one) for one in page], page=pages.info(end)
        )

    async def TriggerSchedule(
        self, request: pb.TriggerScheduleRequest, context: Context
    ) -> pb.TriggerScheduleResponse:
        caller = self._access.caller()
        args = _args(request.args_json)
        async with self._outbox.begin() as tx:
            schedule, _ = await _find(tx.conn, caller, request.schedule)
            await schedules.lock(tx.conn, schedule)
            if schedule.policy.overlap == "skip" and await runs.has_live_run(
                tx.conn, schedule.org_id, schedule.id
            ):
                raise Conflict("A run of this schedule is queued or running.")
            run = await _trigger(tx, schedule, args or schedule.args, caller)
        return pb.TriggerScheduleResponse(run=run_message(run, (), may_read=True))

    async def PauseSchedule(
        self, request: pb.PauseScheduleRequest, context: Context
    ) -> pb.PauseScheduleResponse:
        caller = self._access.caller()
        if len(request.reason) > MAX_REASON_CHARACTERS:
            raise Invalid.field("reason", f"must be at most {MAX_REASON_CHARACTERS} characters")
        if "\x00" in request.reason:
            raise Invalid.field("reason", "must not hold the character U+0000")
        async with self._outbox.begin() as tx:
            schedule, now_us = await _find(tx.conn, caller, request.schedule)
            caller.require_control(schedule)
            if request.is_paused:
                by = caller.principal.user_id
                await schedules.pause(tx.conn, schedule, by, request.reason)
            elif schedule.is_paused:
                # What passed during a pause was not missed: it was not wanted.
                await schedules.resume(tx.conn, schedule, *next_fire(schedule, now_us))
            schedule, _ = await _find(tx.conn, caller, str(schedule.id))
        return pb.PauseScheduleResponse(schedule=schedule_message(schedule))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        caller = self._access.caller()
        if request.state and request.state not in STATES:
            raise Invalid.field("state", f"must be one of {', '.join(STATES)}")
        of_schedule = request.schedule_id
        limit = pages.limit_of(request.page)
        async with connection(self._pool) as conn:
            found = await history.list_runs(
                conn,
                caller.orgs,
                before=pages.after(request.page, UUID),
                state=request.state,
                schedule_id=pages.id_of("schedule_id", of_schedule) if of_schedule else None,
                limit=limit + 1,
            )
            page = found[:limit]
            heard = await attempts.load(conn, [(run.org_id, run.id) for run in page])
        return pb.ListRunsResponse(
            runs=[
                run_message(
                    run, heard.get(run.id, {}).values(), may_read=caller.may_read(run.org_id)
                )
                for run in page
            ],
            page=pages.info(page[-1].id if len(found) > limit else None),
        )

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        caller = self._access.caller()
        run_id = pages.id_of("run_id", request.run_id)
        async with connection(self._pool) as conn:
            run = await history.get(conn, caller.orgs, run_id)
            if run is None:
                raise NotFound("There is no such run.")
            heard = await attempts.load(conn, [(run.org_id, run.id)])
        of_run = heard.get(run.id, {}).values()
        return pb.GetRunResponse(run=run_message(run, of_run, may_read=caller.may_read(run.org_id)))

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        caller = self._access.caller()
        async with connection(self._pool) as conn:
            due = await schedules.seconds_until_due(conn)
            queued, running = await history.count_live(conn, caller.orgs)
            return pb.GetStatusResponse(
                replicas=await replicas.count(conn, REPLICA_SECONDS),
                lag_seconds=0.0 if due is None else max(0.0, -due),
                queued=queued,
                running=running,
                next_fires=[
                    schedule_message(one)
                    for one in await schedules.list_next_fires(conn, caller.orgs, NEXT_FIRES)
                ],
            )


async def _find(conn: Connection, caller: Caller, id_or_name: str) -> tuple[Schedule, int]:
    found = await schedules.get(conn, caller.orgs, id_or_name.replace("\x00", ""))
    if found is None:
        raise NotFound("There is no such schedule.")
    return found


def _args(text: str) -> str:
    """Raises Invalid for what is no JSON object of at most 64 KiB."""
    if not text:
        return ""
    if len(text.encode()) > MAX_ARGS_BYTES:
        raise Invalid.field("args_json", f"must be at most {MAX_ARGS_BYTES} bytes")
    try:
        return msgspec.json.encode(msgspec.json.decode(text, type=dict[str, object])).decode()
    except msgspec.MsgspecError as error:
        raise Invalid.field("args_json", f"must be a JSON object: {error}") from None


async def _trigger(tx: Transaction, schedule: Schedule, args: str, caller: Caller) -> Run:
    policy = schedule.policy
    run_id = new_id()
    token, now_us = await runs.trigger(
        tx.conn,
        schedule=(schedule.org_id, schedule.id),
        run_id=run_id,
        args=args,
        by=caller.principal.user_id,
        grace_seconds=REPORT_GRACE_SECONDS,
    )
    run = Run(
        org_id=schedule.org_id,
        id=run_id,
        schedule_id=schedule.id,
        job=schedule.job,
        scheduled_for_us=now_us,
        state=QUEUED,
        attempt=1,
        lease_token=token,
        max_attempts=policy.max_attempts,
        retry_base_seconds=policy.retry_base_seconds,
        retry_cap_seconds=policy.retry_cap_seconds,
        start_margin_seconds=policy.start_margin_seconds,
        max_runtime_seconds=policy.max_runtime_seconds,
        args=args,
        priority=policy.priority,
    )
    hand_out(tx, run, now_us)
    return run
