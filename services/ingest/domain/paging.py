"""Pages of events: newest first, continued after the last one seen."""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple
from uuid import UUID

from chassis.errors import Invalid

DEFAULT_LIMIT: Final = 50
# One dialect has no pages, so a client may ask for everything it is willing to hold.
MAX_LIMIT: Final = 10_000
# The year 2100: later than anything may start, and exact in PostgreSQL's interval arithmetic.
FAR_US: Final = 4_102_444_800_000_000
NIL: Final = UUID(int=0)
_SHAPE: Final = struct.Struct(">q16s16s")


class Place(NamedTuple):
    """A place in the order of events; a page starts with the event next below it."""

    start_us: int
    event_id: UUID
    device_id: UUID


def before(until_us: int) -> Place:
    """The place above every event that starts before `until_us`."""
    return Place(until_us, NIL, NIL)


def to_cursor(place: Place) -> str:
    """Text that clients pass back without looking into it."""
    packed = _SHAPE.pack(place.start_us, place.event_id.bytes, place.device_id.bytes)
    return urlsafe_b64encode(packed).decode().rstrip("=")


def from_cursor(cursor: str) -> Place:
    """Raises Invalid for anything that `to_cursor` did not write."""
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        start_us, event_id, device_id = _SHAPE.unpack(urlsafe_b64decode(padded.encode("ascii")))
    except (ValueError, struct.error) as error:
        raise Invalid.field("cursor", "is not one that a page ended with") from error
    place = Place(start_us, UUID(bytes=event_id), UUID(bytes=device_id))
    # Decoding skips foreign characters; only the exact text counts.
    if to_cursor(place) != cursor or not 0 <= start_us <= FAR_US:
        raise Invalid.field("cursor", "is not one that a page ended with")
    return place


def page_size(limit: int) -> int:
    """How many events a page holds at most; 0 asks for the default."""
    return min(limit or DEFAULT_LIMIT, MAX_LIMIT)


def id_range(prefix52: int) -> tuple[UUID, UUID]:
    """The first and the last id whose 52 leading bits are `prefix52`.

    Raises:
        Invalid: it has more bits.
    """
    if prefix52 >> 52:
        raise Invalid.field("event_id", "is larger than 2^52 - 1")
    return UUID(int=prefix52 << 76), UUID(int=((prefix52 + 1) << 76) - 1)
