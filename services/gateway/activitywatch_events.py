"""ActivityWatch's events as ours, and ours as theirs.

| bucket type          | columns                                   | state                          |
|----------------------|-------------------------------------------|--------------------------------|
| currentwindow        | app, title                                | unknown: a window says nothing |
| afkstatus            |                                           | not-afk: input, afk: no input  |
| web.tab.current      | url, title                                | audible: as good as input      |
| app.editor.activity  | file, project, language                   | unknown                        |
| any other            |                                           | unknown                        |

`data` is kept whole beside the columns and read back from there. Of incognito tabs neither title
nor address is kept anywhere; only the answer to the heartbeat itself still repeats them. Texts
that outgrow what ingest takes are cut, never refused: aw-client loses what is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from chassis.clock import MICROSECONDS
from protos.common.v1.types_pb2 import ActivityColumns, TimeRange
from protos.ingest.v1.ingest_pb2 import Bucket, StoredEvent
from services.gateway.payloads.activitywatch import (
    ExportedEvent,
    ReportedEvent,
    ShownBucket,
    ShownEvent,
    timestamp,
)

ACTIVE: Final = 1
IDLE: Final = 2
# ingest's own limits (services/ingest/domain/admission.py), in characters.
MAX_DATA: Final = 65_536
LIMITS: Final = {
    "app": 512,
    "title": 4096,
    "url": 8192,
    "project": 512,
    "file": 4096,
    "language": 128,
}
# To what the texts inside are cut when `data` is too long as a whole.
MAX_TEXT_IN_DATA: Final = 4096
TEXT_COLUMNS: Final = tuple(LIMITS)

WINDOW: Final = "currentwindow"
AFK: Final = "afkstatus"
WEB: Final = "web.tab.current"
EDITOR: Final = "app.editor.activity"


class Facts(NamedTuple):
    """What columns say of an event, by column, and the bits of its state."""

    texts: dict[str, str]
    flags: int


Data = Mapping[str, Any]


def _window(data: Data) -> Facts:
    return Facts(_texts(data, "app", "title"), 0)


def _afk(data: Data) -> Facts:
    state = data.get("status")
    return Facts({}, {"not-afk": ACTIVE, "afk": IDLE}.get(state, 0) if type(state) is str else 0)


def _web(data: Data) -> Facts:
    texts = {} if is_incognito(data) else _texts(data, "url", "title")
    return Facts(texts, ACTIVE if data.get("audible") is True else 0)


def _editor(data: Data) -> Facts:
    return Facts(_texts(data, "file", "project", "language"), 0)


_READERS: Final[dict[str, Callable[[Data], Facts]]] = {
    WINDOW: _window,
    AFK: _afk,
    WEB: _web,
    EDITOR: _editor,
}


def facts_of(bucket_type: str, data: Data) -> Facts:
    """What an event of a bucket of that type says beyond its data."""
    reader = _READERS.get(bucket_type)
    return reader(data) if reader else Facts({}, 0)


def is_incognito(data: Data) -> bool:
    """Whether a tab is meant to leave no trace."""
    return data.get("incognito") is True


def kept_data(bucket_type: str, data: dict[str, Any]) -> str:
    """The JSON object that is kept with the event."""
    if bucket_type == WEB and is_incognito(data):
        data = {name: value for name, value in data.items() if name not in {"url", "title"}}
    text = msgspec.json.encode(data).decode()
    if len(text) > MAX_DATA:
        text = msgspec.json.encode(_shortened(data)).decode()
    return text


def columns_of(bucket_type: str, events: Sequence[ReportedEvent]) -> ActivityColumns:
    """Events of one bucket in columns, without identities."""
    facts = [facts_of(bucket_type, event.data) for event in events]
    columns = ActivityColumns(
        start_us=[event.start_us for event in events],
        duration_us=[event.duration_us for event in events],
        flags=[fact.flags for fact in facts],
        data_json=[kept_data(bucket_type, event.data) for event in events],
    )
    for name in TEXT_COLUMNS:
        if any(name in fact.texts for fact in facts):
            getattr(columns, name).extend(fact.texts.get(name, "") for fact in facts)
    return columns


def integer_id(event_id: str) -> int:
    """The whole number that stands for an event: the leading 52 bits of its UUID.

    JavaScript can hold it exactly, and it is never 0: its last four bits are the UUID's version.
    """
    return UUID(event_id).int >> 76


def shown_event(event: StoredEvent, within: TimeRange | None = None) -> ShownEvent:
    """An event as clients read it, clipped to `within`."""
    start, end = event.start_us, event.start_us + event.duration_us
    if within is not None:
        start, end = max(start, within.from_us), min(end, within.until_us)
    return ShownEvent(
        id=integer_id(event.event_id),
        timestamp=timestamp(start),
        duration=max(end - start, 0) / MICROSECONDS,
        data=shown_data(event),
    )


def exported_event(event: StoredEvent) -> ExportedEvent:
    """An event as export files hold it."""
    return ExportedEvent(
        timestamp=timestamp(event.start_us),
        duration=event.duration_us / MICROSECONDS,
        data=shown_data(event),
    )


def shown_data(event: StoredEvent) -> msgspec.Raw | dict[str, Any]:
    """The data as it was sent; for events of other agents, what their columns say."""
    if event.data_json:
        return msgspec.Raw(event.data_json.encode())
    texts = {name: getattr(event, name) for name in TEXT_COLUMNS}
    return {name: text for name, text in texts.items() if text}


def shown_bucket(bucket: Bucket) -> ShownBucket:
    """A bucket as clients read it."""
    return ShownBucket(
        id=bucket.name,
        name=None,
        type=bucket.type,
        client=bucket.client,
        hostname=bucket.hostname,
        created=timestamp(bucket.created_us),
        data=msgspec.Raw((bucket.data_json or "{}").encode()),
        last_updated=timestamp(bucket.last_updated_us) if bucket.last_updated_us else None,
    )


def guessed_type(name: str, data: Data) -> str:
    """The type of a bucket that nobody made, by its name or else by the shape of an event."""
    for prefix, bucket_type in (
        ("aw-watcher-window", WINDOW),
        ("aw-watcher-afk", AFK),
        ("aw-watcher-web", WEB),
    ):
        if name.startswith(prefix):
            return bucket_type
    keys = set(data)
    if keys == {"status"} and data["status"] in ("afk", "not-afk"):  # it may not be hashable
        return AFK
    for needed, bucket_type in (
        ({"url", "title"}, WEB),
        ({"file", "project", "language"}, EDITOR),
        ({"app", "title"}, WINDOW),
    ):
        if needed <= keys:
            return bucket_type
    return "unknown"


def guessed_host(name: str) -> str:
    """The host in a bucket's name: watchers call their buckets `<client>_<host>`."""
    return name.partition("_")[2] or "unknown"


def guessed_client(name: str) -> str:
    """The program in a bucket's name."""
    return name.partition("_")[0] or name


def _texts(data: Data, *names: str) -> dict[str, str]:
    found = {}
    for name in names:
        value = data.get(name)
        if isinstance(value, str) and value:
            # PostgreSQL can't keep NUL; `data` keeps it escaped.
            found[name] = value.replace("\0", "")[: LIMITS[name]]
    return found


def _shortened(value: Any) -> Any:
    match value:
        case str():
            return value[:MAX_TEXT_IN_DATA]
        case dict():
            return {name: _shortened(inner) for name, inner in value.items()}
        case list():
            return [_shortened(inner) for inner in value]
        case _:
            return value
