"""/v1/sessions, /v1/days, /v1/timeline: derived time."""

from typing import Annotated, Final, Literal
from uuid import UUID

from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, QueryParameter

from chassis.errors import Invalid
from chassis.identity import Principal
from protos.sessions.v1.sessions_pb2 import (
    GetDayRequest,
    GetTimelineRequest,
    ListDaysRequest,
    ListSessionsRequest,
)
from services.gateway.accounts.devices import Devices
from services.gateway.auth import Caller
from services.gateway.clients import SessionsClient
from services.gateway.domain import device_key
from services.gateway.payloads.pages import Cursor, Limit, Page, page_request
from services.gateway.payloads.sessions import DayReply, SessionReply, SliceReply
from services.gateway.payloads.times import From, To, parse_date, parse_range

# Slices are small, and a day has many.
MAX_SLICES: Final = 5_000
TODAY: Final = "today"

UserParameter = Annotated[
    UUID | None,
    QueryParameter(name="user_id", description="Somebody else; managers and up"),
]
DateParameter = Annotated[
    str | None, QueryParameter(name="date", max_length=10, description="Local date, or `today`")
]
FirstDate = Annotated[
    str | None, QueryParameter(name="from", max_length=10, description="First date; required")
]
LastDate = Annotated[
    str | None,
    QueryParameter(name="to", max_length=10, description="Last date, at most 92 days; required"),
]
Kind = Annotated[Literal["active", "idle"] | None, QueryParameter(name="kind")]
Category = Annotated[
    str | None,
    QueryParameter(name="category", max_length=200, description="It or its children"),
]
DeviceParameter = Annotated[
    str | None,
    QueryParameter(name="device_id", max_length=100, description="What the agent calls itself"),
]


@get("/v1/sessions", tags=["sessions"])
async def list_sessions(
    caller: NamedDependency[Caller],
    sessions: NamedDependency[SessionsClient],
    devices: NamedDependency[Devices],
    from_: From = None,
    to: To = None,
    date: DateParameter = None,
    kind: Kind = None,
    category: Category = None,
    device_id: DeviceParameter = None,
    user_id: UserParameter = None,
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[SessionReply]:
    """Lists sessions that overlap `from` to `to`, or a local `date`; oldest first."""
    by = readable(caller)
    stretch = parse_range(from_, to)
    if (stretch is None) == (date is None):
        raise Invalid.field("date", "give either date, or from and to")
    wanted = ListSessionsRequest(
        user_id=text_of(user_id),
        range=stretch,
        date=local_date("date", date) if date else "",
        kind=kind or "",
        category=category or "",
        device_id=str(device_key(user_id or by.user_id, device_id)) if device_id else "",
        page=page_request(cursor, limit),
    )
    found = await sessions.list_sessions(by, wanted)
    keys = [key for session in found.sessions for key in session.devices]
    names = await devices.client_ids(by.org_id, keys)
    return Page(
        items=[SessionReply.of(session, names) for session in found.sessions],
        next_cursor=found.page.next_cursor or None,
    )


@get("/v1/days/{date:str}", tags=["sessions"])
async def get_day(
    date: FromPath[str],
    caller: NamedDependency[Caller],
    sessions: NamedDependency[SessionsClient],
    devices: NamedDependency[Devices],
    user_id: UserParameter = None,
) -> DayReply:
    """Gives one local day with its sessions; `date` is YYYY-MM-DD or `today`."""
    by = readable(caller)
    wanted = GetDayRequest(user_id=text_of(user_id), date=local_date("date", date))
    found = await sessions.get_day(by, wanted)
    keys = [key for session in found.sessions for key in session.devices]
    names = await devices.client_ids(by.org_id, keys)
    return DayReply.of(found.day, found.sessions, names)


@get("/v1/days", tags=["sessions"])
async def list_days(
    caller: NamedDependency[Caller],
    sessions: NamedDependency[SessionsClient],
    from_: FirstDate = None,
    to: LastDate = None,
    user_id: UserParameter = None,
) -> Page[DayReply]:
    """Lists local days without their sessions, oldest first, empty ones included."""
    by = readable(caller)
    wanted = ListDaysRequest(
        user_id=text_of(user_id),
        from_date=parse_date("from", from_ or ""),
        to_date=parse_date("to", to or ""),
    )
    found = await sessions.list_days(by, wanted)
    return Page(items=[DayReply.of(day) for day in found.days], next_cursor=None)


@get("/v1/timeline", tags=["sessions"])
async def get_timeline(
    caller: NamedDependency[Caller],
    sessions: NamedDependency[SessionsClient],
    devices: NamedDependency[Devices],
    from_: From = None,
    to: To = None,
    user_id: UserParameter = None,
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[SliceReply]:
    """Lists the slices that overlap a stretch of at most 31 days; `limit` may reach 5,000."""
    by = readable(caller)
    stretch = parse_range(from_, to)
    if stretch is None:
        raise Invalid.field("from", "from and to are required")
    wanted = GetTimelineRequest(
        user_id=text_of(user_id),
        range=stretch,
        page=page_request(cursor, limit, most=MAX_SLICES),
    )
    found = await sessions.get_timeline(by, wanted)
    keys = {one.device_id for one in found.slices}
    names = await devices.client_ids(by.org_id, keys)
    return Page(
        items=[SliceReply.of(one, names) for one in found.slices],
        next_cursor=found.page.next_cursor or None,
    )


def readable(caller: Caller) -> Principal:
    """The caller, who may read; what of others they may read is for the service to say."""
    caller.principal.require_scope("read")
    return caller.principal


def text_of(user_id: UUID | None) -> str:
    """As services want it: empty means the caller."""
    return str(user_id) if user_id else ""


def local_date(field: str, text: str) -> str:
    """A date, or `today`."""
    return text if text == TODAY else parse_date(field, text)


HANDLERS: Final[list[HTTPRouteHandler]] = [list_sessions, get_day, list_days, get_timeline]
