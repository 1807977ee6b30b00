"""IngestService: proto → domain → store → proto. Everything is about the caller's own data."""

import asyncio
from typing import Final, NamedTuple

import grpc.aio
import msgspec
from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.clock import Clock
from chassis.errors import AppError, Forbidden, Invalid
from chassis.identity import SERVICE_ROLE, InternalVerifier, Principal, current_principal
from chassis.log import get_logger
from chassis.postgres import Pool, connection, transaction
from chassis.rpc import pack_error
from protos.common.v1 import types_pb2
from protos.ingest.v1 import ingest_pb2 as pb
from protos.ingest.v1 import ingest_pb2_grpc as pb_grpc
from services.ingest import messages
from services.ingest.commits import appends, heartbeats
from services.ingest.commits.group import GroupCommit
from services.ingest.domain.admission import YEAR_2000_US, Admission, Window, admit
from services.ingest.domain.buckets import checked_bucket, checked_source
from services.ingest.domain.groups import Answer, Append
from services.ingest.domain.heartbeats import Beat, Heard
from services.ingest.domain.months import earliest_kept_us
from services.ingest.domain.paging import Place, before, from_cursor, page_size, to_cursor
from services.ingest.edits import Edits
from services.ingest.store import buckets, pages

NAME: Final = "timeloom.ingest.v1.IngestService"
log = get_logger(__name__)

# The bound of the contract.
MAX_APPENDS: Final = 256
WRITE: Final = "events:write"
READ: Final = "read"

_events = telemetry.meter.create_counter("timeloom.ingest.events", "{event}")
_RESULTS: Final = {
    result: {"timeloom.result": result} for result in ("accepted", "duplicate", "rejected")
}


class IngestServicer(pb_grpc.IngestServiceServicer):
    """Answers for one replica."""

    def __init__(
        self,
        *,
        pool: Pool,
        appends: GroupCommit[Append, Answer],
        beats: GroupCommit[Beat, Heard],
        edits: Edits,
        clock: Clock,
        verifier: InternalVerifier,
        retain_months: int | None,
    ) -> None:
        self._pool = pool
        self._verifier = verifier
        self._appends = appends
        self._beats = beats
        self._edits = edits
        self._clock = clock
        self._retain_months = retain_months

    def register(self, server: grpc.aio.Server) -> str:
        """Adds itself to a server; the name of the service."""
        pb_grpc.add_IngestServiceServicer_to_server(self, server)
        return NAME

    async def AppendEvents(
        self, request: pb.AppendEventsRequest, context: object
    ) -> pb.AppendEventsResponse:
        admission, answer = self._submit(current_principal(), request)
        return _answered(admission, await answer)

    async def AppendMany(
        self, request: pb.AppendManyRequest, context: object
    ) -> pb.AppendManyResponse:
        if current_principal().role != SERVICE_ROLE:
            raise Forbidden("Only a service may append for several callers.")
        if len(request.appends) > MAX_APPENDS:
            raise Invalid.field("appends", f"must be at most {MAX_APPENDS}")
        # All are submitted before the first is awaited, so that they share a commit.
        submitted = [self._submit_for(append) for append in request.appends]
        outcomes = [await _outcome(one) for one in submitted]
        return pb.AppendManyResponse(outcomes=outcomes)

    def _submit_for(self, append: pb.TokenAppend) -> "_Submitted | Exception":
        parents = [append.traceparent]
        with telemetry.span("ingest append", SpanKind.SERVER, parents=parents) as span:
            try:
                return self._submit(self._verifier.verify(append.token), append.request)
            except Exception as error:  # noqa: BLE001  # it is the outcome of this append only
                kind = error.kind if isinstance(error, AppError) else type(error).__name__
                span.set_attribute("error.type", kind)
                return error

    def _submit(self, by: Principal, request: pb.AppendEventsRequest) -> "_Submitted":
        """Checks and hands over; nothing is kept before the answer comes."""
        _require_person(by, WRITE)
        source = checked_source(request.source)
        device_id = messages.uuid_of(request.device_id, "device_id")
        window = self._window()
        reported = messages.reported_of(request.events, list(request.client_ids))
        admission = admit(source, reported, window)
        if not len(admission.columns):
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            answer.set_result(Answer(0, 0))
            return _Submitted(admission, answer)
        append = Append(
            org_id=by.org_id,
            user_id=by.user_id,
            device_id=device_id,
            source=source,
            columns=admission.columns,
            chosen=admission.chosen,
            received_us=window.received_us,
        )
        return _Submitted(admission, self._appends.submit(append, appends.load_of(append)))

    async def Heartbeat(
        self, request: pb.HeartbeatRequest, context: object
    ) -> pb.HeartbeatResponse:
        by = _person(WRITE)
        if request.pulsetime_us < 0:
            raise Invalid.field("pulsetime", "is negative")
        window = self._window()
        one = messages.event_of(request, window)
        beat = Beat(by.org_id, by.user_id, one, request.pulsetime_us, window.latest_us)
        event, is_news = await self._beats.submit(beat, heartbeats.load_of(beat))
        _count(accepted=is_news, duplicate=not is_news)
        return pb.HeartbeatResponse(event=messages.event_message(event))

    async def ListEvents(
        self, request: pb.ListEventsRequest, context: object
    ) -> pb.ListEventsResponse:
        wanted = _wanted(_person(READ), request)._replace(ids=messages.ids_of(request))
        cursor = request.page.cursor
        below = from_cursor(cursor) if cursor else before(wanted.until_us)
        limit = page_size(request.page.limit)
        events, has_more = await pages.read_page(self._pool, wanted, below, limit)
        page = types_pb2.PageInfo()
        if has_more:
            last = events[-1]
            page.next_cursor = to_cursor(Place(last.start_us, last.event_id, last.device_id))
        return pb.ListEventsResponse(
            events=[messages.event_message(event) for event in events], page=page
        )

    async def CountEvents(
        self, request: pb.CountEventsRequest, context: object
    ) -> pb.CountEventsResponse:
        count = await pages.count(self._pool, _wanted(_person(READ), request))
        return pb.CountEventsResponse(count=count)

    async def ReplaceEvent(
        self, request: pb.ReplaceEventRequest, context: object
    ) -> pb.ReplaceEventResponse:
        by = _person(WRITE)
        event_id = messages.uuid_of(request.event_id, "event_id")
        one = messages.event_of(request, self._window())
        wanted = msgspec.structs.replace(one, event_id=event_id)
        event = await self._edits.replace(by.org_id, by.user_id, wanted)
        return pb.ReplaceEventResponse(event=messages.event_message(event))

    async def DeleteEvent(
        self, request: pb.DeleteEventRequest, context: object
    ) -> pb.DeleteEventResponse:
        by = _person(WRITE)
        event_id = messages.uuid_of(request.event_id, "event_id")
        was_removed = await self._edits.remove(by.org_id, by.user_id, event_id)
        return pb.DeleteEventResponse(was_removed=was_removed)

    async def PutBucket(
        self, request: pb.PutBucketRequest, context: object
    ) -> pb.PutBucketResponse:
        by = _person(WRITE)
        now_us = self._clock.now_us()
        bucket = checked_bucket(messages.bucket_of(request.bucket, created_us=now_us))
        async with transaction(self._pool) as conn:
            was_created = await buckets.add(conn, by.org_id, by.user_id, bucket)
            if request.should_update and not was_created:
                await buckets.describe(conn, by.org_id, by.user_id, bucket)
        return pb.PutBucketResponse(was_created=was_created)

    async def ListBuckets(
        self, request: pb.ListBucketsRequest, context: object
    ) -> pb.ListBucketsResponse:
        by = _person(READ)
        name = checked_source(request.name, "name") if request.name else ""
        async with connection(self._pool) as conn:
            found = await buckets.list_all(conn, by.org_id, by.user_id, name=name)
        return pb.ListBucketsResponse(buckets=map(messages.bucket_message, found))

    async def DeleteBucket(
        self, request: pb.DeleteBucketRequest, context: object
    ) -> pb.DeleteBucketResponse:
        by = _person(WRITE)
        name = checked_source(request.name, "name")
        removed_events = await self._edits.remove_bucket(by.org_id, by.user_id, name)
        return pb.DeleteBucketResponse(removed_events=removed_events)

    def _window(self) -> Window:
        now_us = self._clock.now_us()
        return Window(earliest_kept_us(now_us, self._retain_months, YEAR_2000_US), now_us)


def _count(**results: int) -> None:
    for result, number in results.items():
        if number:
            _events.add(int(number), _RESULTS[result])


class _Submitted(NamedTuple):
    """What was let in, and the answer to come."""

    admission: Admission
    answer: asyncio.Future[Answer]


def _answered(admission: Admission, answer: Answer) -> pb.AppendEventsResponse:
    _count(accepted=answer.accepted, duplicate=answer.duplicates)
    _count(rejected=len(admission.rejected))
    return messages.append_response(answer, admission)


async def _outcome(submitted: _Submitted | Exception) -> pb.AppendOutcome:
    if isinstance(submitted, Exception):
        return _failed(submitted)
    try:
        answer = await submitted.answer
    except Exception as error:  # noqa: BLE001  # it is the outcome of this append only
        return _failed(error)
    return pb.AppendOutcome(response=_answered(submitted.admission, answer))


def _failed(error: Exception) -> pb.AppendOutcome:
    if isinstance(error, AppError):
        return pb.AppendOutcome(error=pack_error(error))
    log.error("ingest.append_failed", exc_info=error)
    return pb.AppendOutcome(error=types_pb2.ErrorDetail(kind="internal"))


def _person(scope: str) -> Principal:
    """The caller, if it is somebody and may do this.

    Raises:
        Forbidden: it lacks the scope, or is a service and not a person.
    """
    by = current_principal()
    _require_person(by, scope)
    return by


def _require_person(by: Principal, scope: str) -> None:
    by.require_scope(scope)
    if not by.user_id.int:
        raise Forbidden("Events belong to a person.")


def _wanted(by: Principal, request: pb.ListEventsRequest | pb.CountEventsRequest) -> pages.Wanted:
    from_us, until_us = messages.range_of(request)
    return pages.Wanted(
        by.org_id,
        by.user_id,
        from_us,
        until_us,
        messages.uuid_of(request.device_id, "device_id") if request.device_id else None,
        checked_source(request.source) if request.source else None,
    )
