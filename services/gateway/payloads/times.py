"""Time as the public interface writes it: RFC 3339 with an offset, durations in seconds."""

from datetime import date, datetime
from typing import Annotated, Final

import msgspec
from litestar.params import QueryParameter

from chassis.clock import MICROSECONDS, to_datetime, to_us
from chassis.errors import Invalid
from protos.common.v1.types_pb2 import TimeRange

From = Annotated[
    str | None, QueryParameter(name="from", max_length=64, description="First instant, RFC 3339")
]
To = Annotated[
    str | None,
    QueryParameter(name="to", max_length=64, description="First instant after, RFC 3339"),
]
_decode_datetime: Final = msgspec.json.Decoder(datetime).decode


def instant(us: int) -> str:
    """`2026-01-19T10:15:00Z`; with six decimals only when there are any."""
    return to_datetime(us).isoformat().replace("+00:00", "Z")


def instant_or_none(us: int) -> str | None:
    """As `instant`; 0 means never."""
    return instant(us) if us else None


def seconds(us: int) -> float:
    """A duration; whole seconds are whole numbers."""
    return us // MICROSECONDS if us % MICROSECONDS == 0 else us / MICROSECONDS


def parse_instant(field: str, text: str) -> int:
    """Microseconds since the Unix epoch of RFC 3339 text; a `+` that a URL made a space is fine.

    Raises:
        Invalid: it is no instant, or has no offset.
    """
    try:
        # The decoder is the one for bodies, so that both accept the same.
        moment = _decode_datetime(msgspec.json.encode(text.replace(" ", "+")))
    except msgspec.ValidationError:
        raise _no_instant(field) from None
    if moment.tzinfo is None:
        raise _no_instant(field)
    return to_us(moment)


def _no_instant(field: str) -> Invalid:
    return Invalid.field(field, "must be an instant with an offset, such as 2026-01-19T10:15:00Z")


def parse_range(from_: str | None, to: str | None) -> TimeRange | None:
    """The half-open stretch of the parameters `from` and `to`; None when neither is given.

    Raises:
        Invalid: only one is given, one is no instant, or they are out of order.
    """
    if from_ is None and to is None:
        return None
    if from_ is None or to is None:
        raise Invalid.field("from" if from_ is None else "to", "from and to go together")
    stretch = TimeRange(from_us=parse_instant("from", from_), until_us=parse_instant("to", to))
    if stretch.until_us <= stretch.from_us:
        raise Invalid.field("to", "must be after from")
    return stretch


def parse_date(field: str, text: str) -> str:
    """A local date as given, once it is known to be one.

    Raises:
        Invalid: it is not YYYY-MM-DD, or there is no such day.
    """
    try:
        # fromisoformat alone would take week dates and dates without dashes.
        is_date = date.fromisoformat(text).isoformat() == text
    except ValueError:
        is_date = False
    if not is_date:
        raise Invalid.field(field, "must be a date such as 2026-01-19")
    return text
