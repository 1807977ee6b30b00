"""The other services, as small as the gateway's tests need them: they remember what was asked."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from chassis.clock import SystemClock
from chassis.errors import AppError
from chassis.identity import (
    InternalVerifier,
    Principal,
    current_principal,
    load_public_key,
    set_principal,
)
from chassis.rpc import RpcServer, pack_error
from chassis.settings import GrpcSettings
from protos.ingest.v1 import ingest_pb2 as ingest
from protos.ingest.v1 import ingest_pb2_grpc
from protos.realtime.v1 import realtime_pb2_grpc
from protos.scheduler.v1 import scheduler_pb2 as scheduler
from protos.scheduler.v1 import scheduler_pb2_grpc
from protos.sessions.v1 import sessions_pb2 as sessions
from protos.sessions.v1 import sessions_pb2_grpc

Answer = Callable[[Any], Any]


class Recorder:
    """Remembers every call; `answers` by request type replace the default answer."""

    def __init__(self) -> None:
        self.calls: list[tuple[Principal, Any]] = []
        self.answers: dict[type, Answer | AppError] = {}

    def answer(self, request: Any, default: Any) -> Any:
        """What to say to a request."""
        self.calls.append((current_principal(), request))
        chosen = self.answers.get(type(request))
        if isinstance(chosen, AppError):
            raise chosen
        return chosen(request) if chosen is not None else default

    def last(self, request_type: type) -> tuple[Principal, Any]:
        """The newest call of a kind."""
        found = [call for call in self.calls if isinstance(call[1], request_type)]
        return found[-1]

    def forget(self) -> None:
        """Starts afresh."""
        self.calls.clear()
        self.answers.clear()


def append_many(recorder: Recorder, verifier: InternalVerifier) -> Any:
    """AppendMany: each append on behalf of its own caller, recorded as if it had come alone."""

    async def behave(_self: Any, request: Any, _context: Any) -> Any:
        reply = ingest.AppendManyResponse()
        for append in request.appends:
            set_principal(verifier.verify(append.token))
            outcome = reply.outcomes.add()
            try:
                answer = recorder.answer(append.request, ingest.AppendEventsResponse())
                outcome.response.CopyFrom(answer)
            except AppError as error:
                outcome.error.CopyFrom(pack_error(error))
        return reply

    return behave


def servicer(base: type, recorder: Recorder, methods: dict[str, type]) -> Any:
    """A servicer of `base` whose methods answer with an empty reply unless told otherwise."""

    def method(reply: type) -> Any:
        async def behave(_self: Any, request: Any, _context: Any) -> Any:
            return recorder.answer(request, reply())

        return behave

    return type("Stub", (base,), {name: method(reply) for name, reply in methods.items()})()


SERVICES: list[tuple[str, type, Any, dict[str, type]]] = [
    (
        "timeloom.ingest.v1.IngestService",
        ingest_pb2_grpc.IngestServiceServicer,
        ingest_pb2_grpc.add_IngestServiceServicer_to_server,
        {
            "AppendEvents": ingest.AppendEventsResponse,
            "ListEvents": ingest.ListEventsResponse,
            "DeleteEvent": ingest.DeleteEventResponse,
        },
    ),
    (
        "timeloom.sessions.v1.SessionsService",
        sessions_pb2_grpc.SessionsServiceServicer,
        sessions_pb2_grpc.add_SessionsServiceServicer_to_server,
        {
            "ListSessions": sessions.ListSessionsResponse,
            "GetDay": sessions.GetDayResponse,
            "ListDays": sessions.ListDaysResponse,
            "GetTimeline": sessions.GetTimelineResponse,
        },
    ),
    (
        "timeloom.scheduler.v1.SchedulerService",
        scheduler_pb2_grpc.SchedulerServiceServicer,
        scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server,
        {
            "ListSchedules": scheduler.ListSchedulesResponse,
            "TriggerSchedule": scheduler.TriggerScheduleResponse,
            "PauseSchedule": scheduler.PauseScheduleResponse,
            "ListRuns": scheduler.ListRunsResponse,
            "GetRun": scheduler.GetRunResponse,
            "GetStatus": scheduler.GetStatusResponse,
        },
    ),
    (
        "timeloom.scheduler.v1.DeadLettersService",
        scheduler_pb2_grpc.DeadLettersServiceServicer,
        scheduler_pb2_grpc.add_DeadLettersServiceServicer_to_server,
        {
            "ListDeadLetters": scheduler.ListDeadLettersResponse,
            "GetDeadLetter": scheduler.GetDeadLetterResponse,
            "ReplayDeadLetters": scheduler.ReplayDeadLettersResponse,
            "DiscardDeadLetters": scheduler.DiscardDeadLettersResponse,
        },
    ),
    (
        "timeloom.realtime.v1.PresenceService",
        realtime_pb2_grpc.PresenceServiceServicer,
        realtime_pb2_grpc.add_PresenceServiceServicer_to_server,
        {},
    ),
]


def everything(recorder: Recorder, verifier: InternalVerifier) -> list[Any]:
    """How to add each service to a server."""

    def adder(name: str, base: type, add: Any, methods: dict[str, type]) -> Any:
        def register(server: grpc.aio.Server) -> str:
            stub = servicer(base, recorder, methods)
            if base is ingest_pb2_grpc.IngestServiceServicer:
                type(stub).AppendMany = append_many(recorder, verifier)
            add(stub, server)
            return name

        return register

    return [adder(*service) for service in SERVICES]


def accept_all(request: ingest.AppendEventsRequest) -> ingest.AppendEventsResponse:
    """Ingest on a good day."""
    return ingest.AppendEventsResponse(accepted=len(request.events.start_us))


@asynccontextmanager
async def serving(recorder: Recorder, listen: str, public_key: Any) -> AsyncIterator[None]:
    """Every service at one address, with the identity checks of the real ones."""
    verifier = InternalVerifier(load_public_key(public_key), SystemClock())
    server = RpcServer(
        settings=GrpcSettings(grpc_listen=listen),
        verifier=verifier,
        clock=SystemClock(),
        servicers=everything(recorder, verifier),
        drain_seconds=1.0,
    )
    await server.start()
    try:
        yield
    finally:
        await server.stop()
