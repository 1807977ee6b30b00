"""Lists: pages with opaque cursors."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Final, Generic, TypeVar
from uuid import UUID

import msgspec
from litestar.params import QueryParameter

from chassis.errors import Invalid
from protos.common.v1.types_pb2 import PageRequest

Item = TypeVar("Item")
Row = TypeVar("Row")

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
FIRST_ID: Final = UUID(int=0)
LAST_ID: Final = UUID(int=2**128 - 1)

Cursor = Annotated[
    str | None,
    QueryParameter(name="cursor", max_length=2000, description="`next_cursor` of the page before"),
]
Limit = Annotated[
    int | None,
    QueryParameter(
        name="limit", description="Most items wanted; 1 to 200, coerced; 50 when absent"
    ),
]


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """One page of a list; `next_cursor` is null at the end."""

    items: list[Item]
    next_cursor: str | None


def coerced(limit: int | None, *, most: int = MAX_LIMIT) -> int:
    """A limit within 1 to `most`."""
    return min(max(limit if limit is not None else DEFAULT_LIMIT, 1), most)


def page_request(cursor: str | None, limit: int | None, *, most: int = MAX_LIMIT) -> PageRequest:
    """The page as services are asked for it; cursors are theirs."""
    return PageRequest(cursor=cursor or "", limit=coerced(limit, most=most))


def page_by_id(
    found: Sequence[Row], most: int, id_of: Callable[[Row], UUID], show: Callable[[Row], Item]
) -> Page[Item]:
    """The first `most` of what was found, which was asked for one more than that."""
    shown = found[:most]
    has_more = len(found) > most
    return Page(
        items=[show(row) for row in shown],
        next_cursor=encode_cursor(id_of(shown[-1])) if has_more else None,
    )


def encode_cursor(last_id: UUID) -> str:
    """A cursor for lists that are ordered by id alone."""
    return urlsafe_b64encode(last_id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str | None, *, start: UUID) -> UUID:
    """The id a page goes on from; `start` for the first page.

    Raises:
        Invalid: it is no cursor of ours.
    """
    if not cursor:
        return start
    try:
        return UUID(bytes=urlsafe_b64decode(cursor + "=="))
    except ValueError:
        raise Invalid.field("cursor", "must be the next_cursor of the page before") from None
