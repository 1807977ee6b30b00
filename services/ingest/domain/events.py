"""One event as it is kept, for the paths that handle events one by one."""

from typing import NamedTuple
from uuid import UUID

import msgspec

from services.ingest.domain.columns import ACTIVE, CLAMPED, IDLE, POINT, Columns, Texts


class Content(NamedTuple):
    """What an event says; texts are empty where it says nothing, `data` is canonical JSON."""

    app: str
    title: str
    url: str
    project: str
    file: str
    language: str
    category: str
    data: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A stored event; instants as in Columns, `end_us` is the clamped one of the two ends."""

    event_id: UUID
    device_id: UUID
    source: str
    start_us: int
    end_us: int
    claimed_end_us: int
    flags: int
    revision: int
    received_us: int
    content: Content

    def says_the_same_as(self, other: "Event") -> bool:
        """Whether both report one state, whenever and however long."""
        state = ACTIVE | IDLE | POINT
        return self.content == other.content and self.flags & state == other.flags & state


def ending(event: Event, claimed_end_us: int, latest_us: int) -> Event:
    """The event with another end, clamped; a clock that went back takes nothing from it."""
    end_us = max(event.end_us, min(claimed_end_us, latest_us))
    flags = event.flags & ~CLAMPED | (CLAMPED if claimed_end_us > end_us else 0)
    return msgspec.structs.replace(event, end_us=end_us, claimed_end_us=claimed_end_us, flags=flags)


def columns_of(events: list[Event]) -> Columns:
    """The events side by side."""
    same_texts = zip(*(event.content for event in events), strict=True)
    return Columns(
        ids=[event.event_id.bytes for event in events],
        start_us=[event.start_us for event in events],
        end_us=[event.end_us for event in events],
        claimed_end_us=[event.claimed_end_us for event in events],
        flags=[event.flags for event in events],
        texts=Texts(*map(list, same_texts)),
    )


def single(columns: Columns, *, device_id: UUID, source: str, received_us: int) -> Event:
    """The one event of `columns`, not stored yet."""
    return Event(
        event_id=UUID(bytes=columns.ids[0]),
        device_id=device_id,
        source=source,
        start_us=columns.start_us[0],
        end_us=columns.end_us[0],
        claimed_end_us=columns.claims[0],
        flags=columns.flags[0],
        revision=0,
        received_us=received_us,
        content=Content(*(column[0] if column else "" for column in columns.texts)),
    )
