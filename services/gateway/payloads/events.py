"""Events as agents post them and as they are listed."""

from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple, Self

import msgspec

from chassis.clock import MICROSECONDS, to_us
from chassis.errors import Invalid, Violation
from protos.common.v1.types_pb2 import ActivityColumns
from protos.ingest.v1.ingest_pb2 import AppendEventsResponse, StoredEvent
from services.gateway.domain import MAX_DEVICE_ID_CHARACTERS
from services.gateway.payloads.decode import (
    NOT_JSON,
    NUL_ESCAPE,
    decode,
    decoder_of,
    malformed,
    refuse_nul,
    violation_of,
)
from services.gateway.payloads.problem import FieldError
from services.gateway.payloads.times import instant, seconds

MAX_EVENTS: Final = 5000
MAX_DATA_BYTES: Final = 8 * 1024
MAX_DURATION_SECONDS: Final = 31 * 86_400
# Bits of ActivityColumns.flags.
INPUT_SEEN: Final = 1
NO_INPUT_SEEN: Final = 2
POINT: Final = 4
CLAMPED: Final = 8

DeviceId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_DEVICE_ID_CHARACTERS)]
Source = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Text100 = Annotated[str, msgspec.Meta(max_length=100)]
Text200 = Annotated[str, msgspec.Meta(max_length=200)]
Text1000 = Annotated[str, msgspec.Meta(max_length=1000)]
Text2000 = Annotated[str, msgspec.Meta(max_length=2000)]
Text4000 = Annotated[str, msgspec.Meta(max_length=4000)]


# Absent; msgspec.Raw takes no part in unions.
NO_DATA: Final = msgspec.Raw()


class NewEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What one source saw: an interval from `start` on, or a point that proves work around it.

    `duration` is seconds, 0 for points. `idle` is true without input, false with, null when the
    source can't tell. `data` is whatever else there is, a JSON object of at most 8 kB.
    """

    start: Annotated[datetime, msgspec.Meta(tz=True)]
    duration: Annotated[float, msgspec.Meta(ge=0, le=MAX_DURATION_SECONDS)]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    kind: Literal["sample", "point"] = "sample"
    idle: bool | None = None
    app: Text200 | None = None
    title: Text1000 | None = None
    url: Text4000 | None = None
    project: Text200 | None = None
    file: Text2000 | None = None
    language: Text100 | None = None
    category: Text100 | None = None
    # A factory, because the schema can't say this default.
    data: msgspec.Raw = msgspec.field(default_factory=lambda: NO_DATA)


class PostEvents(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Events of one source on one device, whatever the two call themselves."""

    device_id: DeviceId
    source: Source
    events: Annotated[list[NewEvent], msgspec.Meta(min_length=1, max_length=MAX_EVENTS)]


class _PostRaw(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """The same with events still to be looked at one by one."""

    device_id: DeviceId
    source: Source
    events: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_EVENTS)]


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """An event that can't be kept, by its place in the request."""

    index: int
    errors: list[FieldError]


class PostedReply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events; each is counted once."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


class Batch(NamedTuple):
    """A request taken apart: what can be asked of ingest, and what can't.

    `places[i]` is where event i was in the request; None when all of them are good.
    """

    device_id: str
    source: str
    events: list[NewEvent]
    places: list[int] | None
    rejected: list[Rejected]


def read_batch(body: bytes) -> Batch:
    """The events of a body. A bad event among good ones is rejected alone.

    Raises:
        Malformed: it is not JSON.
        Invalid: something besides the events is wrong.
    """
    if NUL_ESCAPE not in body:
        try:
            posted: PostEvents = _decode(body)
        except msgspec.ValidationError:
            return _read_one_by_one(body)
        except NOT_JSON as error:
            raise malformed(error) from None
        if not any(map(_fault_of, posted.events)):
            return Batch(posted.device_id, posted.source, posted.events, None, [])
    return _read_one_by_one(body)


def _read_one_by_one(body: bytes) -> Batch:
    posted = decode_outer(body)
    events: list[NewEvent] = []
    places: list[int] = []
    rejected: list[Rejected] = []
    for index, raw in enumerate(posted.events):
        try:
            events.append(read_event(raw))
            places.append(index)
        except Invalid as error:
            rejected.append(Rejected(index=index, errors=errors_of(error.violations)))
    return Batch(posted.device_id, posted.source, events, places if rejected else None, rejected)


def decode_outer(body: bytes) -> _PostRaw:
    """Everything but the events; raises as `read_batch`."""
    try:
        posted: _PostRaw = decoder_of(_PostRaw).decode(body)
    except NOT_JSON:
        return decode(body, _PostRaw)
    refuse_nul(posted.device_id, "device_id")
    refuse_nul(posted.source, "source")
    return posted


def read_event(raw: msgspec.Raw) -> NewEvent:
    """One event.

    Raises:
        Invalid: names the field that is wrong.
    """
    try:
        event: NewEvent = _decode_event(raw)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), violations=[violation_of(error)]) from None
    if fault := _fault_of(event):
        raise Invalid.field("data", fault)
    if NUL_ESCAPE in bytes(raw):
        refuse_nul(msgspec.json.decode(raw))
    return event


def _fault_of(event: NewEvent) -> str:
    """What is wrong with `data`, if anything."""
    if event.data is NO_DATA:
        return ""
    text = bytes(event.data)
    if text != b"null" and not text.startswith(b"{"):
        return "must be a JSON object"
    return f"must be at most {MAX_DATA_BYTES} bytes" if len(text) > MAX_DATA_BYTES else ""


_decode: Final = decoder_of(PostEvents).decode
_decode_event: Final = decoder_of(NewEvent).decode


def errors_of(violations: tuple[Violation, ...]) -> list[FieldError]:
    """Violations as they are shown."""
    return [FieldError(field=field, message=message) for field, message in violations]


def columns_of(events: list[NewEvent]) -> ActivityColumns:
    """The events as columns; only those that say something."""
    columns = ActivityColumns(
        start_us=[to_us(event.start) for event in events],
        duration_us=[round(event.duration * MICROSECONDS) for event in events],
        flags=[_FLAGS[event.kind, event.idle] for event in events],
    )
    for name in ("app", "title", "url", "project", "file", "language", "category"):
        column = [getattr(event, name) or "" for event in events]
        if any(column):
            getattr(columns, name).extend(column)
    if any(event.data is not NO_DATA for event in events):
        columns.data_json.extend(_text_of(event.data) for event in events)
    return columns


_FLAGS: Final[dict[tuple[str, bool | None], int]] = {
    (kind, idle): bits | (0 if idle is None else NO_INPUT_SEEN if idle else INPUT_SEEN)
    for kind, bits in (("sample", 0), ("point", POINT))
    for idle in (None, True, False)
}


def _text_of(data: msgspec.Raw) -> str:
    text = bytes(data).decode()
    return "" if text == "null" else text


def ids_of(events: list[NewEvent]) -> list[str]:
    """The client's ids, empty where it gave none; no entries when it gave none at all."""
    ids = [event.id or "" for event in events]
    return ids if any(ids) else []


def posted_reply(batch: Batch, answer: AppendEventsResponse | None) -> PostedReply:
    """The answer to a batch; places are those of the request. None: nothing was good enough."""
    rejected = list(batch.rejected)
    for one in answer.rejected if answer is not None else ():
        place = batch.places[one.index] if batch.places is not None else one.index
        errors = [FieldError(field=e.field, message=e.message) for e in one.errors]
        rejected.append(Rejected(index=place, errors=errors))
    return PostedReply(
        accepted=answer.accepted if answer is not None else 0,
        duplicates=answer.duplicates if answer is not None else 0,
        rejected=sorted(rejected, key=lambda one: one.index),
    )


class EventReply(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it is kept; `clamped` when its end was beyond the time it was received."""

    id: str
    device_id: str
    source: str
    start: str
    duration: float
    kind: str
    idle: bool | None
    clamped: bool
    app: str | None
    title: str | None
    url: str | None
    project: str | None
    file: str | None
    language: str | None
    category: str | None
    data: msgspec.Raw
    received_at: str

    @classmethod
    def of(cls, event: StoredEvent, device_id: str) -> Self:
        """From ingest; `device_id` is what the agent calls itself."""
        idle = {INPUT_SEEN: False, NO_INPUT_SEEN: True}.get(
            event.flags & (INPUT_SEEN | NO_INPUT_SEEN)
        )
        return cls(
            id=event.event_id,
            device_id=device_id,
            source=event.source,
            start=instant(event.start_us),
            duration=seconds(event.duration_us),
            kind="point" if event.flags & POINT else "sample",
            idle=idle,
            clamped=bool(event.flags & CLAMPED),
            app=event.app or None,
            title=event.title or None,
            url=event.url or None,
            project=event.project or None,
            file=event.file or None,
            language=event.language or None,
            category=event.category or None,
            data=msgspec.Raw(event.data_json.encode() or b"null"),
            received_at=instant(event.received_us),
        )
