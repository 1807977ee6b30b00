"""What the ActivityWatch dialect does with events, whatever the transport: pages, chunks, ids."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from chassis.errors import Invalid, NotFound
from chassis.identity import Principal
from protos.common.v1.types_pb2 import ActivityColumns, PageRequest, TimeRange
from protos.ingest.v1.ingest_pb2 import (
    AppendEventsRequest,
    CountEventsRequest,
    DeleteEventRequest,
    HeartbeatRequest,
    ListEventsRequest,
    ReplaceEventRequest,
    StoredEvent,
)
from services.gateway.activitywatch_events import columns_of
from services.gateway.buckets import Buckets, Place, looking
from services.gateway.clients import IngestClient
from services.gateway.payloads.activitywatch import ReportedEvent

PAGE: Final = 2000
# Below what ingest takes at once, and in bytes below what a call may carry.
CHUNK_EVENTS: Final = 1000
CHUNK_BYTES: Final = 4 * 1024 * 1024


class Events:
    """Events of buckets, through ingest."""

    def __init__(self, *, ingest: IngestClient, buckets: Buckets) -> None:
        self._ingest = ingest
        self._buckets = buckets

    async def heartbeat(
        self, by: Principal, bucket: str, event: ReportedEvent, pulsetime_us: int
    ) -> StoredEvent:
        """The event the heartbeat became part of; makes the bucket when there is none."""
        try:
            return await self._heartbeat(by, bucket, event, pulsetime_us)
        except NotFound:
            # It was deleted elsewhere since we looked.
            self._buckets.forget(by, bucket)
            return await self._heartbeat(by, bucket, event, pulsetime_us)

    async def _heartbeat(
        self, by: Principal, bucket: str, event: ReportedEvent, pulsetime_us: int
    ) -> StoredEvent:
        place = await self._buckets.place_for(by, bucket, event.data)
        request = HeartbeatRequest(
            device_id=place.device_id,
            source=place.name,
            pulsetime_us=pulsetime_us,
            event=columns_of(place.type, [event]),
        )
        return (await self._ingest.heartbeat(by, request)).event

    async def page(
        self,
        by: Principal,
        place: Place,
        stretch: TimeRange | None,
        *,
        limit: int,
        cursor: str = "",
    ) -> tuple[list[StoredEvent], str]:
        """At most `limit` events, newest first, and the cursor of the next page, empty at the end."""
        request = ListEventsRequest(
            range=stretch,
            device_id=place.device_id,
            source=place.name,
            page=PageRequest(cursor=cursor, limit=min(limit, PAGE)),
        )
        answer = await self._ingest.list_events(by, request)
        return list(answer.events), answer.page.next_cursor

    async def pages(
        self, by: Principal, place: Place, stretch: TimeRange | None, *, limit: int | None
    ) -> AsyncIterator[list[StoredEvent]]:
        """All events, or the newest `limit`, a page at a time, newest first."""
        left = limit if limit is not None else -1
        cursor = ""
        while left:
            wanted = PAGE if left < 0 else left
            events, cursor = await self.page(by, place, stretch, limit=wanted, cursor=cursor)
            left -= len(events) if left > 0 else 0
            yield events
            if not cursor:
                return

    async def count(self, by: Principal, place: Place, stretch: TimeRange | None) -> int:
        """How many there are."""
        request = CountEventsRequest(range=stretch, device_id=place.device_id, source=place.name)
        return (await self._ingest.count_events(by, request)).count

    async def find(self, by: Principal, place: Place, integer_id: int) -> StoredEvent | None:
        """The event with that whole number as id."""
        request = ListEventsRequest(
            device_id=place.device_id,
            source=place.name,
            event_id_prefix52=integer_id,
            page=PageRequest(limit=1),
        )
        events = (await self._ingest.list_events(looking(by), request)).events
        return events[0] if events else None

    async def delete(self, by: Principal, place: Place, integer_id: int) -> bool:
        """Whether there was such an event to remove."""
        event = await self.find(by, place, integer_id)
        if event is None:
            return False
        request = DeleteEventRequest(event_id=event.event_id)
        return (await self._ingest.delete_event(by, request)).was_removed

    async def replace(self, by: Principal, place: Place, event: ReportedEvent) -> bool:
        """Whether there was an event with its id, whose content is now this one's."""
        found = await self.find(by, place, event.event_id)
        if found is None:
            return False
        request = ReplaceEventRequest(
            device_id=place.device_id,
            source=place.name,
            event_id=found.event_id,
            event=columns_of(place.type, [event]),
        )
        await self._ingest.replace_event(by, request)
        return True

    async def insert(
        self, by: Principal, bucket: str, events: Sequence[ReportedEvent | Invalid]
    ) -> dict[int, str]:
        """Replaces events whose id is known and keeps the others as new.

        What is wrong, by place in `events`; those that can't be read are among it.

        Raises:
            NotFound: there is no such bucket.
        """
        place = await self._buckets.place(by, bucket)
        wrong: dict[int, str] = {}
        new: dict[int, ReportedEvent] = {}
        for index, event in enumerate(events):
            try:
                if isinstance(event, Invalid):
                    raise event
                if not (event.event_id and await self.replace(by, place, event)):
                    new[index] = event
            except Invalid as error:
                wrong[index] = str(error)
        outcome = await self.keep(by, place, list(new.values()))
        wrong |= {i: str(error) for i, error in zip(new, outcome, strict=True) if error}
        return dict(sorted(wrong.items()))

    async def keep(
        self, by: Principal, place: Place, events: Sequence[ReportedEvent]
    ) -> list[Invalid | None]:
        """Keeps new events: None for each that is kept now or was before, else what is wrong."""
        outcome: list[Invalid | None] = []
        for chunk, columns in _chunks(place.type, events):
            request = AppendEventsRequest(
                device_id=place.device_id, source=place.name, events=columns
            )
            answer = await self._ingest.append_events(by, request)
            results: list[Invalid | None] = [None] * len(chunk)
            for one in answer.rejected:
                said = "; ".join(f"{e.field} {e.message}" for e in one.errors)
                results[one.index] = Invalid(said)
            outcome += results
        return outcome


def _chunks(
    bucket_type: str, events: Sequence[ReportedEvent]
) -> Iterator[tuple[Sequence[ReportedEvent], ActivityColumns]]:
    """The events with their columns; halves what is too large, and large is rare."""
    waiting = [events[i : i + CHUNK_EVENTS] for i in range(0, len(events), CHUNK_EVENTS)][::-1]
    while waiting:
        chunk = waiting.pop()
        columns = columns_of(bucket_type, chunk)
        if columns.ByteSize() > CHUNK_BYTES and len(chunk) > 1:
            middle = len(chunk) // 2
            waiting += [chunk[middle:], chunk[:middle]]
        else:
            yield chunk, columns
