"""Live messages over HTTP: server-sent events, and tickets for clients that can't send headers."""

from typing import Annotated, Final

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import FromQuery, HeaderParameter, QueryParameter

from chassis.errors import Invalid
from services.gateway.auth import Authenticator, Caller
from services.gateway.event_stream import EventStream
from services.gateway.http.provide import address_of, identify
from services.gateway.http.request import StrictRequest
from services.gateway.hub import Hub
from services.gateway.leases import Leases
from services.gateway.payloads.live import Position, parse_position
from services.gateway.payloads.times import instant
from services.gateway.rate_limit import RateLimits
from services.gateway.tickets import Tickets
from services.gateway.tokens import BadCredential

# No stream was ever that: it makes the answer say that something may be missing.
UNKNOWN: Final = Position("unknown", 0)

SinceParameter = Annotated[
    str | None,
    QueryParameter(name="since", description="Position to resume from; `Last-Event-ID` wins"),
]
LastEventId = Annotated[
    str | None, HeaderParameter(name="last-event-id", description="As EventSource sends it")
]
TicketParameter = Annotated[
    str | None, QueryParameter(name="ticket", description="Instead of a credential")
]


class LiveTicket(msgspec.Struct, frozen=True, kw_only=True):
    """Good for one connection: `/v1/live?ticket=…` or `/v1/live/sse?ticket=…`."""

    ticket: str
    expires_at: str


@post("/v1/live/tickets", tags=["live"])
async def create_ticket(
    caller: NamedDependency[Caller], tickets: NamedDependency[Tickets]
) -> LiveTicket:
    """Gives a ticket that opens one live connection within 30 seconds, for browsers."""
    caller.principal.require_scope("read")
    ticket = await tickets.issue(caller)
    return LiveTicket(ticket=ticket.text, expires_at=instant(ticket.expires_at_us))


@get(
    "/v1/live/sse",
    tags=["live"],
    responses={200: ResponseSpec(str, media_type="text/event-stream", description="The events")},
)
async def stream(
    request: StrictRequest,
    authenticator: NamedDependency[Authenticator],
    limits: NamedDependency[RateLimits],
    tickets: NamedDependency[Tickets],
    hub: NamedDependency[Hub],
    leases: NamedDependency[Leases],
    channel: FromQuery[str] = "me",
    since: SinceParameter = None,
    last_event_id: LastEventId = None,
    ticket: TicketParameter = None,
) -> EventStream:
    """Streams one channel as server-sent events: `me`, `org`, `jobs` or `space:<id>`.

    `data` is a frame of the live protocol (docs/asyncapi.yaml), `id` its position.
    """
    if ticket:
        caller = await _bearer(request, ticket, tickets, limits)
    else:
        caller = await identify(request, authenticator, limits)
    caller.principal.require_scope("read")
    events = EventStream(hub=hub, leases=leases, caller=caller)
    await events.open(channel, _position(since, last_event_id))
    return events


async def _bearer(
    request: StrictRequest, ticket: str, tickets: Tickets, limits: RateLimits
) -> Caller:
    try:
        caller = await tickets.redeem(ticket)
    except BadCredential:
        limits.refused(address_of(request))
        raise
    limits.request(caller)
    return caller


def _position(since: str | None, last_event_id: str | None) -> Position | None:
    if last_event_id:
        try:
            return parse_position(last_event_id)
        except Invalid:
            # EventSource repeats its id for ever; an error would only make it give up.
            return UNKNOWN
    return parse_position(since) if since else None


HANDLERS: Final[list[HTTPRouteHandler]] = [create_ticket, stream]
