"""The contract's messages as domain values, and back; pure."""

from uuid import UUID

from chassis.errors import Invalid
from protos.common.v1 import types_pb2
from protos.ingest.v1 import ingest_pb2 as pb
from services.ingest.domain.admission import Admission, Reported, Window, admit
from services.ingest.domain.buckets import Bucket, checked_source
from services.ingest.domain.columns import Texts
from services.ingest.domain.events import Event, single
from services.ingest.domain.groups import Answer
from services.ingest.domain.paging import FAR_US, id_range


def uuid_of(text: str, field: str) -> UUID:
    """Raises Invalid, naming the field, unless `text` is a UUID."""
    try:
        return UUID(text)
    except ValueError:
        raise Invalid.field(field, "is not a UUID") from None


def reported_of(events: types_pb2.ActivityColumns, client_ids: list[str]) -> Reported:
    """Events as an agent sent them."""
    return Reported(
        names=client_ids,
        start_us=list(events.start_us),
        duration_us=list(events.duration_us),
        flags=list(events.flags),
        texts=Texts(
            app=list(events.app),
            title=list(events.title),
            url=list(events.url),
            project=list(events.project),
            file=list(events.file),
            language=list(events.language),
            category=list(events.category),
            data=list(events.data_json),
        ),
    )


def event_of(request: pb.HeartbeatRequest | pb.ReplaceEventRequest, window: Window) -> Event:
    """The only event of a request, named by its content and not stored yet.

    Raises:
        Invalid: it can't be kept, or is not alone.
    """
    source = checked_source(request.source)
    device_id = uuid_of(request.device_id, "device_id")
    if len(request.event.start_us) != 1:
        raise Invalid.field("event", "must be exactly one event")
    admission = admit(source, reported_of(request.event, []), window)
    for rejection in admission.rejected:
        raise Invalid("The event can't be kept.", violations=rejection.errors)
    return single(
        admission.columns, device_id=device_id, source=source, received_us=window.received_us
    )


def append_response(answer: Answer, admission: Admission) -> pb.AppendEventsResponse:
    """What became of each event."""
    return pb.AppendEventsResponse(
        accepted=answer.accepted,
        duplicates=answer.duplicates,
        rejected=[
            pb.RejectedEvent(
                index=place,
                errors=[types_pb2.Violation(field=field, message=text) for field, text in errors],
            )
            for place, errors in admission.rejected
        ],
    )


def event_message(event: Event) -> pb.StoredEvent:
    """One stored event."""
    content = event.content
    return pb.StoredEvent(
        event_id=str(event.event_id),
        device_id=str(event.device_id),
        source=event.source,
        start_us=event.start_us,
        duration_us=event.end_us - event.start_us,
        flags=event.flags,
        app=content.app,
        title=content.title,
        url=content.url,
        project=content.project,
        file=content.file,
        language=content.language,
        category=content.category,
        data_json=content.data,
        received_us=event.received_us,
    )


def range_of(request: pb.ListEventsRequest | pb.CountEventsRequest) -> tuple[int, int]:
    """The stretch asked about; all of time when none is given.

    Raises:
        Invalid: it ends before it begins.
    """
    if not request.HasField("range"):
        return 0, FAR_US
    from_us = min(max(request.range.from_us, 0), FAR_US)
    until_us = min(max(request.range.until_us, 0), FAR_US)
    if until_us < from_us:
        raise Invalid.field("to", "is before from")
    return from_us, until_us


def ids_of(request: pb.ListEventsRequest) -> tuple[UUID, UUID] | None:
    """The first and the last event id asked for; None when any will do."""
    if request.event_id:
        event_id = uuid_of(request.event_id, "event_id")
        return event_id, event_id
    if request.event_id_prefix52:
        return id_range(request.event_id_prefix52)
    return None


def bucket_of(message: pb.Bucket, *, created_us: int) -> Bucket:
    """A bucket to create."""
    return Bucket(
        name=message.name,
        device_id=uuid_of(message.device_id, "device_id"),
        type=message.type,
        client=message.client,
        hostname=message.hostname,
        data=message.data_json,
        created_us=created_us,
    )


def bucket_message(bucket: Bucket) -> pb.Bucket:
    """A bucket with its times."""
    return pb.Bucket(
        name=bucket.name,
        device_id=str(bucket.device_id),
        type=bucket.type,
        client=bucket.client,
        hostname=bucket.hostname,
        data_json=bucket.data,
        created_us=bucket.created_us,
        last_updated_us=bucket.last_updated_us,
    )
