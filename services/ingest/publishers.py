"""What ingest says on the bus, and the stream it owns."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from nats.js.api import StreamConfig

from chassis.bus import Bus, partition_of
from chassis.outbox import Transaction
from protos.common.v1.types_pb2 import ActivityColumns
from protos.ingest.v1.announcements_pb2 import ActivityRecorded, SourceActivity
from services.ingest.domain.columns import REMOVED, Columns, joined, taken
from services.ingest.domain.events import Event, columns_of

ACTIVITY_STREAM: Final = "ACTIVITY"
_HOURS: Final = 3600.0
# A consumer handles a message as a whole, so it must be worth doing at once and no more.
MAX_MESSAGE_BYTES: Final = 512 * 1024


class Recorded(NamedTuple):
    """Events of one source, as they are stored now; `revisions` may be empty, which means 0."""

    org_id: UUID
    user_id: UUID
    device_id: UUID
    source: str
    columns: Columns
    revisions: list[int]


async def declare_streams(bus: Bus, *, replicas: int) -> None:
    """Creates the stream this service owns, or brings it up to date."""
    await bus.ensure_stream(
        StreamConfig(
            name=ACTIVITY_STREAM,
            subjects=["activity.v1.>"],
            max_age=72 * _HOURS,
            max_bytes=8 * 1024 * 1024 * 1024,
            num_replicas=replicas,
            duplicate_window=120,
            allow_atomic=True,
            allow_direct=True,
        )
    )


def kept(org_id: UUID, user_id: UUID, event: Event) -> Recorded:
    """One event that is new, grew or was replaced."""
    columns = columns_of([event])
    return Recorded(org_id, user_id, event.device_id, event.source, columns, [event.revision])


def removed(org_id: UUID, user_id: UUID, tombstones: Sequence[Event]) -> list[Recorded]:
    """Events that are gone, together where device and source are the same."""
    by_source: dict[tuple[UUID, str], list[Event]] = {}
    for event in tombstones:
        marked = msgspec.structs.replace(event, flags=event.flags | REMOVED)
        by_source.setdefault((event.device_id, event.source), []).append(marked)
    return [
        Recorded(
            org_id,
            user_id,
            device_id,
            source,
            columns_of(events),
            [event.revision for event in events],
        )
        for (device_id, source), events in by_source.items()
    ]


def announce(tx: Transaction, recorded: Iterable[Recorded]) -> None:
    """One announcement for each organization and partition, or more where one would be too large."""
    sources: dict[tuple[UUID, UUID, UUID, str], list[Recorded]] = {}
    for one in recorded:
        if len(one.columns):
            sources.setdefault(one[:4], []).append(one)
    groups: dict[tuple[UUID, int], list[Recorded]] = {}
    for (org_id, user_id, *_), same in sources.items():
        groups.setdefault((org_id, partition_of(user_id)), []).append(_merged(same))
    for (org_id, partition), those in groups.items():
        for activity in _packed(piece for one in those for piece in _pieces(one)):
            message = ActivityRecorded(org_id=str(org_id), activity=activity)
            tx.announce(ACTIVITY_STREAM, f"activity.v1.{partition}.{org_id}", message)


def _merged(same: Sequence[Recorded]) -> Recorded:
    """What several appends recorded of one source."""
    if len(same) == 1:
        return same[0]
    revisions: list[int] = []
    if any(one.revisions for one in same):
        revisions = [n for one in same for n in one.revisions or [0] * len(one.columns)]
    return same[0]._replace(columns=joined([one.columns for one in same]), revisions=revisions)


def _pieces(one: Recorded) -> Iterator[SourceActivity]:
    """As few messages as fit the limit; one event always does (domain/admission.py)."""
    message = _source_activity(one)
    count = len(one.columns)
    if count == 1 or message.ByteSize() <= MAX_MESSAGE_BYTES:
        yield message
        return
    for half in (range(count // 2), range(count // 2, count)):
        columns, revisions = one.columns.take(half), taken(one.revisions, half)
        yield from _pieces(one._replace(columns=columns, revisions=revisions))


def _packed(pieces: Iterable[SourceActivity]) -> Iterator[list[SourceActivity]]:
    pack: list[SourceActivity] = []
    size = 0
    for piece in pieces:
        more = piece.ByteSize()
        if pack and size + more > MAX_MESSAGE_BYTES:
            yield pack
            pack, size = [], 0
        pack.append(piece)
        size += more
    if pack:
        yield pack


def _source_activity(one: Recorded) -> SourceActivity:
    columns = one.columns
    *texts, data = columns.texts
    names = ("app", "title", "url", "project", "file", "language", "category")
    pairs = zip(columns.start_us, columns.end_us, strict=True)
    return SourceActivity(
        user_id=str(one.user_id),
        device_id=str(one.device_id),
        source=one.source,
        events=ActivityColumns(
            event_id=columns.ids,
            start_us=columns.start_us,
            duration_us=[end - start for start, end in pairs],
            flags=columns.flags,
            revision=one.revisions,
            **dict(zip(names, texts, strict=True)),
            data_json=data,
        ),
    )
