"""The other services as the gateway sees them: one class each, one method per call.

Every method takes the caller, signs for them, has a deadline, and raises the errors of
chassis/errors.py. Only calls that may be repeated are retried, and only when nobody answered.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.clock import Clock
from chassis.errors import Unavailable
from chassis.health import CHECK_SECONDS, Check
from chassis.identity import SERVICE_ROLE, InternalSigner, Principal
from chassis.rpc import DEFAULT_CALL_SECONDS, call
from protos.ingest.v1 import ingest_pb2 as ingest
from protos.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from protos.realtime.v1 import realtime_pb2 as realtime
from protos.realtime.v1.realtime_pb2_grpc import LiveServiceStub, PresenceServiceStub
from protos.scheduler.v1 import scheduler_pb2 as scheduler
from protos.scheduler.v1.scheduler_pb2_grpc import DeadLettersServiceStub, SchedulerServiceStub
from protos.sessions.v1 import sessions_pb2 as sessions
from protos.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from services.gateway.appends import AppendMany, Appends

Reply = TypeVar("Reply")
Method = Callable[..., Awaitable[Reply]]

# The gateway's own calls, on nobody's behalf.
GATEWAY: Final = Principal(org_id=UUID(int=0), user_id=UUID(int=0), role=SERVICE_ROLE)
REPEATABLE_TRIES: Final = 3
# ActivityWatch agents wait for as long as it takes and lose what is refused, so their calls are
# held through a restart of ingest.
PATIENT_SECONDS: Final = 30.0
PATIENT_TRIES: Final = 20


class Calls:
    """How a service is called on somebody's behalf."""

    def __init__(self, *, signer: InternalSigner, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock

    def appends(self, append_many: AppendMany) -> Appends:
        """The shared way of appends to ingest."""
        return Appends(append_many=append_many, own=GATEWAY, signer=self._signer, clock=self._clock)

    async def once(self, method: Method[Reply], request: Message, by: Principal) -> Reply:
        """One try, for calls that must not be repeated."""
        return await call(method, request, token=self._signer.token_for(by), clock=self._clock)

    async def repeatable(
        self,
        method: Method[Reply],
        request: Message,
        by: Principal,
        *,
        seconds: float = DEFAULT_CALL_SECONDS,
        tries: int = REPEATABLE_TRIES,
    ) -> Reply:
        """A few tries, for calls whose repetition changes nothing."""
        token = self._signer.token_for(by)
        return await call(
            method, request, token=token, clock=self._clock, seconds=seconds, tries=tries
        )


def health_of(channel: grpc.aio.Channel) -> Check:
    """A readiness check that asks the service at the other end."""
    stub = health_pb2_grpc.HealthStub(channel)

    async def check() -> None:
        try:
            reply = await stub.Check(  # type: ignore[attr-defined]  # the published types omit it
                health_pb2.HealthCheckRequest(), timeout=CHECK_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"The service does not answer: {error.code().name}.") from error
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            raise Unavailable("The service says that it does not serve.")

    return check


class IngestClient:
    """Raw events and buckets."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub = IngestServiceStub(channel)
        self._calls = calls
        self._appends = calls.appends(self._stub.AppendMany)

    async def append_events(
        self, by: Principal, request: ingest.AppendEventsRequest
    ) -> ingest.AppendEventsResponse:
        """Keeps events; durable when it returns."""
        return await self._appends.append(by, request)

    async def heartbeat(
        self, by: Principal, request: ingest.HeartbeatRequest
    ) -> ingest.HeartbeatResponse:
        """Held up to PATIENT_SECONDS while ingest is away: the same heartbeat merges into itself."""
        return await self._calls.repeatable(
            self._stub.Heartbeat, request, by, seconds=PATIENT_SECONDS, tries=PATIENT_TRIES
        )

    async def list_events(
        self, by: Principal, request: ingest.ListEventsRequest
    ) -> ingest.ListEventsResponse:
        return await self._calls.repeatable(self._stub.ListEvents, request, by)

    async def count_events(
        self, by: Principal, request: ingest.CountEventsRequest
    ) -> ingest.CountEventsResponse:
        return await self._calls.repeatable(self._stub.CountEvents, request, by)

    async def replace_event(
        self, by: Principal, request: ingest.ReplaceEventRequest
    ) -> ingest.ReplaceEventResponse:
        return await self._calls.repeatable(self._stub.ReplaceEvent, request, by)

    async def delete_event(
        self, by: Principal, request: ingest.DeleteEventRequest
    ) -> ingest.DeleteEventResponse:
        """A repeated try may say that it was gone already."""
        return await self._calls.repeatable(self._stub.DeleteEvent, request, by)

    async def put_bucket(
        self, by: Principal, request: ingest.PutBucketRequest
    ) -> ingest.PutBucketResponse:
        """Held like a heartbeat; a repeated try may say that it existed."""
        return await self._calls.repeatable(
            self._stub.PutBucket, request, by, seconds=PATIENT_SECONDS, tries=PATIENT_TRIES
        )

    async def list_buckets(
        self, by: Principal, request: ingest.ListBucketsRequest
    ) -> ingest.ListBucketsResponse:
        return await self._calls.repeatable(self._stub.ListBuckets, request, by)

    async def delete_bucket(
        self, by: Principal, request: ingest.DeleteBucketRequest
    ) -> ingest.DeleteBucketResponse:
        return await self._calls.repeatable(self._stub.DeleteBucket, request, by)


class SessionsClient:
    """Derived time."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub = SessionsServiceStub(channel)
        self._calls = calls

    async def list_sessions(
        self, by: Principal, request: sessions.ListSessionsRequest
    ) -> sessions.ListSessionsResponse:
        return await self._calls.repeatable(self._stub.ListSessions, request, by)

    async def get_day(
        self, by: Principal, request: sessions.GetDayRequest
    ) -> sessions.GetDayResponse:
        return await self._calls.repeatable(self._stub.GetDay, request, by)

    async def list_days(
        self, by: Principal, request: sessions.ListDaysRequest
    ) -> sessions.ListDaysResponse:
        return await self._calls.repeatable(self._stub.ListDays, request, by)

    async def get_timeline(
        self, by: Principal, request: sessions.GetTimelineRequest
    ) -> sessions.GetTimelineResponse:
        return await self._calls.repeatable(self._stub.GetTimeline, request, by)


class SchedulerClient:
    """Schedules and runs."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub = SchedulerServiceStub(channel)
        self._calls = calls

    async def list_schedules(
        self, by: Principal, request: scheduler.ListSchedulesRequest
    ) -> scheduler.ListSchedulesResponse:
        return await self._calls.repeatable(self._stub.ListSchedules, request, by)

    async def trigger_schedule(
        self, by: Principal, request: scheduler.TriggerScheduleRequest
    ) -> scheduler.TriggerScheduleResponse:
        """Makes a run, so it is tried once."""
        return await self._calls.once(self._stub.TriggerSchedule, request, by)

    async def pause_schedule(
        self, by: Principal, request: scheduler.PauseScheduleRequest
    ) -> scheduler.PauseScheduleResponse:
        return await self._calls.repeatable(self._stub.PauseSchedule, request, by)

    async def list_runs(
        self, by: Principal, request: scheduler.ListRunsRequest
    ) -> scheduler.ListRunsResponse:
        return await self._calls.repeatable(self._stub.ListRuns, request, by)

    async def get_run(
        self, by: Principal, request: scheduler.GetRunRequest
    ) -> scheduler.GetRunResponse:
        return await self._calls.repeatable(self._stub.GetRun, request, by)

    async def get_status(
        self, by: Principal, request: scheduler.GetStatusRequest
    ) -> scheduler.GetStatusResponse:
        return await self._calls.repeatable(self._stub.GetStatus, request, by)


class DeadLettersClient:
    """Messages that left processing by failure."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub = DeadLettersServiceStub(channel)
        self._calls = calls

    async def list_dead_letters(
        self, by: Principal, request: scheduler.ListDeadLettersRequest
    ) -> scheduler.ListDeadLettersResponse:
        return await self._calls.repeatable(self._stub.ListDeadLetters, request, by)

    async def get_dead_letter(
        self, by: Principal, request: scheduler.GetDeadLetterRequest
    ) -> scheduler.GetDeadLetterResponse:
        return await self._calls.repeatable(self._stub.GetDeadLetter, request, by)

    async def replay_dead_letters(
        self, by: Principal, request: scheduler.ReplayDeadLettersRequest
    ) -> scheduler.ReplayDeadLettersResponse:
        """Publishes again, so it is tried once."""
        return await self._calls.once(self._stub.ReplayDeadLetters, request, by)

    async def discard_dead_letters(
        self, by: Principal, request: scheduler.DiscardDeadLettersRequest
    ) -> scheduler.DiscardDeadLettersResponse:
        return await self._calls.repeatable(self._stub.DiscardDeadLetters, request, by)


class PresenceClient:
    """Who is here."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub = PresenceServiceStub(channel)
        self._calls = calls

    async def refresh_leases(
        self, by: Principal, request: realtime.RefreshLeasesRequest
    ) -> realtime.RefreshLeasesResponse:
        """Call it as GATEWAY."""
        return await self._calls.repeatable(self._stub.RefreshLeases, request, by)

    async def list_presence(
        self, by: Principal, request: realtime.ListPresenceRequest
    ) -> realtime.ListPresenceResponse:
        return await self._calls.repeatable(self._stub.ListPresence, request, by)


class LiveClient:
    """What was said on live channels."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub = LiveServiceStub(channel)
        self._calls = calls

    async def get_history(
        self, by: Principal, request: realtime.GetHistoryRequest
    ) -> realtime.GetHistoryResponse:
        return await self._calls.repeatable(self._stub.GetHistory, request, by)
