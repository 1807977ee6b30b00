"""Bodies of ActivityWatch's REST interface, version 0, as its clients write and read them.

Read leniently, as the reference servers do: unknown keys are ignored, a missing offset means UTC.
Times are truncated to milliseconds before anything is compared. Source: reference implementation
aw-server 0.13/0.14, `time-tracking-peers` §2.1 in the project's reference notes.
"""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from chassis.clock import MICROSECONDS, to_datetime, to_us
from chassis.errors import Invalid, Violation
from protos.common.v1.types_pb2 import TimeRange

MILLISECOND_US: Final = 1000
MAX_NAME_CHARACTERS: Final = 200
# What ranges without an end or a beginning reach to.
BEGINNING_US: Final = 0
END_US: Final = 4_102_444_800 * MICROSECONDS
# Ids have 52 bits (activitywatch_events.integer_id).
FIRST_TOO_LARGE_ID: Final = 1 << 52
# A raw `+` in a query string arrives as a space.
_SPACED_OFFSET: Final = re.compile(r"(?<=[0-9]) (?=[0-9]{2}:?[0-9]{2}$)")


class ReportedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as a client sends it, checked: instants in µs, UTC.

    `event_id` is the id of the event to replace, 0 for a new one.
    """

    event_id: int
    start_us: int
    duration_us: int
    data: dict[str, Any]


class ShownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as clients read it; `duration` is in seconds."""

    id: int
    timestamp: str
    duration: float
    data: msgspec.Raw | dict[str, Any]

    def saying(self, data: dict[str, Any]) -> "ShownEvent":
        """The same with other data."""
        return msgspec.structs.replace(self, data=data)


class ExportedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event in an export: ids mean nothing elsewhere."""

    timestamp: str
    duration: float
    data: msgspec.Raw | dict[str, Any]


class BucketBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says when it makes a bucket."""

    type: str
    client: str
    hostname: str
    data: dict[str, Any] = {}


class ShownBucket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bucket as clients read it; without events it has no `last_updated`."""

    id: str
    name: None
    type: str
    client: str
    hostname: str
    created: str
    data: msgspec.Raw
    last_updated: str | None = None


class ImportedBucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket of an export file; what else it says is about the server it comes from."""

    type: str
    client: str = "import"
    hostname: str = "unknown"
    data: dict[str, Any] | None = None
    events: list[msgspec.Raw] = []


class ImportBody(msgspec.Struct, frozen=True, kw_only=True):
    """An export file: buckets by id."""

    buckets: dict[str, ImportedBucket]


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    timestamp: str | None = None
    duration: float | None = None
    data: dict[str, Any] = {}
    id: int | str | None = None


def parse_event(body: bytes | msgspec.Raw) -> ReportedEvent:
    """One event.

    Raises:
        Invalid: it is none; names the property.
    """
    event = decode_leniently(body, _Event)
    if event.timestamp is None:
        raise Invalid(
            "Input payload validation failed",
            violations=[Violation("timestamp", "'timestamp' is a required property")],
        )
    given = event.id if isinstance(event.id, int) else 0
    # Some watchers compute durations across a clock that was set back.
    seconds = min(max(event.duration or 0.0, 0.0), END_US / MICROSECONDS)
    return ReportedEvent(
        event_id=given if 0 < given < FIRST_TOO_LARGE_ID else 0,
        start_us=parse_timestamp("timestamp", event.timestamp),
        duration_us=round(seconds * MICROSECONDS),
        data=event.data,
    )


def parse_events(body: bytes) -> list[ReportedEvent | Invalid]:
    """One event or an array of them, each with itself or what is wrong with it.

    Raises:
        Invalid: it is neither.
    """
    if body.lstrip()[:1] != b"[":
        return [parse_event(body)]
    return [checked_event(item) for item in decode_leniently(body, list[msgspec.Raw])]


def checked_event(item: msgspec.Raw) -> ReportedEvent | Invalid:
    """An event, or what is wrong with it."""
    try:
        return parse_event(item)
    except Invalid as error:
        return error


def decode_leniently(body: bytes | msgspec.Raw, type_: Any) -> Any:
    """A body as `type_`, though it may hold what only Python's json module calls JSON.

    Window titles on Windows may be cut in the middle of a surrogate pair, and Python writes NaN;
    refusing a heartbeat for that would lose it, since aw-client does not try again.

    Raises:
        Invalid: it is not JSON, or not of that shape.
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        value = json.loads(bytes(body), parse_constant=lambda _: None)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        return msgspec.json.decode(text, type=type_)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from error


def parse_timestamp(name: str, text: str) -> int:
    """ISO 8601 with or without an offset, in µs, truncated to milliseconds.

    Raises:
        Invalid: it is no instant.
    """
    try:
        moment = datetime.fromisoformat(_SPACED_OFFSET.sub("+", text.strip()))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        us = to_us(moment.astimezone(UTC))
    except (ValueError, OverflowError):
        raise Invalid.field(name, "must be an ISO 8601 timestamp") from None
    return us - us % MILLISECOND_US


def parse_stretch(start: str | None, end: str | None) -> TimeRange | None:
    """The parameters `start` and `end`; None when neither is given. The end belongs to it.

    Raises:
        Invalid: one is no instant.
    """
    if not start and not end:
        return None
    from_us = parse_timestamp("start", start) if start else BEGINNING_US
    # The reference server rounds the end up, so that no event is missed.
    until_us = parse_timestamp("end", end) + MILLISECOND_US if end else END_US
    return TimeRange(from_us=from_us, until_us=max(until_us, from_us))


def parse_pulsetime(text: str | None) -> int:
    """Seconds as µs.

    Raises:
        Invalid: it is missing or no number of seconds.
    """
    if text is None:
        raise Invalid("Missing required parameter pulsetime")
    try:
        seconds = float(text)
        return max(0, round(min(seconds, END_US / MICROSECONDS) * MICROSECONDS))
    except ValueError:
        raise Invalid("The parameter pulsetime must be a number of seconds") from None


def parse_limit(text: str | None) -> int | None:
    """Most events wanted; None for all, which clients also write as a negative number.

    Raises:
        Invalid: it is no whole number.
    """
    if text is None:
        return None
    try:
        limit = int(text)
    except ValueError:
        raise Invalid("The parameter limit must be a whole number") from None
    return limit if limit >= 0 else None


def parse_bucket_name(name: str) -> str:
    """The id of a bucket.

    Raises:
        Invalid: it is empty, longer than 200 characters or holds control characters.
    """
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise Invalid(f"A bucket id has 1 to {MAX_NAME_CHARACTERS} printable characters")
    return name


def timestamp(us: int) -> str:
    """`2024-01-01T00:00:15.002000+00:00`; without decimals when there are none."""
    return to_datetime(us).isoformat()
