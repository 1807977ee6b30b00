"""Pages of lists: how long, from where on, and where they ended."""

import base64
import binascii
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from chassis.errors import Invalid
from protos.common.v1.types_pb2 import PageInfo, PageRequest

DEFAULT: Final = 50
MOST: Final = 200
Place = TypeVar("Place")


def limit_of(page: PageRequest) -> int:
    """Items wanted, 1 to 200."""
    return min(page.limit or DEFAULT, MOST)


def after(page: PageRequest, kind: type[Place]) -> Place | None:
    """Where the page before ended; None on the first page.

    Raises:
        Invalid: not a cursor that this list gave.
    """
    if not page.cursor:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(page.cursor), type=kind)
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise Invalid.field("cursor", "must be the next_cursor of an earlier answer") from None


def info(place: object | None) -> PageInfo:
    """Where this page ended; None at the end of the list."""
    if place is None:
        return PageInfo()
    return PageInfo(next_cursor=base64.urlsafe_b64encode(msgspec.json.encode(place)).decode())


def id_of(field: str, text: str) -> UUID:
    """Raises Invalid, naming the field, for what is no UUID."""
    try:
        return UUID(text)
    except ValueError:
        raise Invalid.field(field, "must be a UUID") from None
