"""/v1/events: raw events in and out."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from chassis.errors import NotFound
from chassis.identity import Principal
from protos.ingest.v1.ingest_pb2 import (
    AppendEventsRequest,
    DeleteEventRequest,
    ListEventsRequest,
)
from services.gateway import problems
from services.gateway.accounts.devices import Devices
from services.gateway.auth import Authenticator, Caller
from services.gateway.bodies import read_body
from services.gateway.clients import IngestClient
from services.gateway.domain import device_key
from services.gateway.http.provide import address_of, admitted
from services.gateway.http.request import StrictRequest
from services.gateway.payloads.events import (
    EventReply,
    PostedReply,
    PostEvents,
    columns_of,
    ids_of,
    posted_reply,
    read_batch,
)
from services.gateway.payloads.pages import Cursor, Limit, Page, page_request
from services.gateway.payloads.times import From, To, parse_range
from services.gateway.rate_limit import RateLimits
from services.gateway.usage import Usage

DeviceParameter = Annotated[
    str | None,
    QueryParameter(name="device_id", max_length=100, description="What the agent calls itself"),
]
SourceParameter = Annotated[str | None, QueryParameter(name="source", max_length=200)]
PATH: Final = "/v1/events"
_JSON: Final = {"content-type": "application/json"}
_encode: Final = msgspec.json.Encoder().encode


class Intake:
    """The way of posted events to ingest: the busiest path there is (figures in README.md)."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        limits: RateLimits,
        usage: Usage,
        ingest: IngestClient,
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._usage = usage
        self._ingest = ingest

    async def admit(self, headers: Mapping[str, str], address: str) -> Principal:
        """Whoever posts, before anything of the body is read.

        Raises:
            BadCredential, Exhausted: as `admitted`.
            Forbidden: the credential may not write events.
        """
        caller = await admitted(headers, address, self._authenticator, self._limits)
        caller.principal.require_scope("events:write")
        return caller.principal

    async def take(self, by: Principal, body: bytes) -> bytes:
        """Keeps the events of a body; the JSON answer. They are durable when it returns."""
        batch = read_batch(body)
        if not batch.events:
            return _encode(posted_reply(batch, None))
        device_id = await self._usage.device(by, batch.device_id)
        append = AppendEventsRequest(
            device_id=str(device_id),
            source=batch.source,
            client_ids=ids_of(batch.events),
            events=columns_of(batch.events),
        )
        return _encode(posted_reply(batch, await self._ingest.append_events(by, append)))

    def handler(self) -> HTTPRouteHandler:
        """`POST /v1/events` as the framework serves it: for browsers, and for the documentation."""

        @post(
            PATH,
            tags=["events"],
            status_code=200,
            opt={"body": PostEvents},
            responses={200: ResponseSpec(PostedReply, description="What became of the events")},
        )
        async def post_events(request: StrictRequest) -> ASGIResponse:
            """Keeps 1 to 5,000 events; sending them again changes nothing."""
            by = await self.admit(request.headers, address_of(request))
            return ASGIResponse(body=await self.take(by, await request.body()))

        return post_events


class ShortCut:
    """Takes `POST /v1/events` past the framework, which costs as much as all the rest of it.

    Browsers of other origins go the long way: their answers need the framework's CORS headers.
    """

    def __init__(self, rest: ASGIApp, intake: Intake, *, body_limit_bytes: int) -> None:
        self._rest = rest
        self._intake = intake
        self._body_limit_bytes = body_limit_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
            }
            if "origin" not in headers:
                await self._take(headers, scope, receive, send)
                return
        await self._rest(scope, receive, send)

    async def _take(self, headers: Mapping[str, str], scope: Any, receive: Any, send: Any) -> None:
        # The edge names the span and the metric by it.
        scope["path_template"] = PATH
        address = scope["client"][0] if scope.get("client") else ""
        try:
            by = await self._intake.admit(headers, address)
            declared = headers.get("content-length", "")
            body = await read_body(receive, self._body_limit_bytes, declared)
            answer = await self._intake.take(by, body)
        except Exception as error:  # noqa: BLE001  # every error has its problem
            await problems.send(error, send)
        else:
            await problems.send_answer(send, 200, answer, _JSON)


@get(PATH, tags=["events"])
async def list_events(
    caller: NamedDependency[Caller],
    ingest: NamedDependency[IngestClient],
    devices: NamedDependency[Devices],
    from_: From = None,
    to: To = None,
    device_id: DeviceParameter = None,
    source: SourceParameter = None,
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[EventReply]:
    """Lists your events, newest first."""
    by = caller.principal
    by.require_scope("read")
    wanted = ListEventsRequest(
        range=parse_range(from_, to),
        device_id=str(device_key(by.user_id, device_id)) if device_id else "",
        source=source or "",
        page=page_request(cursor, limit),
    )
    found = await ingest.list_events(by, wanted)
    names = await devices.client_ids(by.org_id, [event.device_id for event in found.events])
    return Page(
        items=[EventReply.of(event, names[event.device_id]) for event in found.events],
        next_cursor=found.page.next_cursor or None,
    )


@delete("/v1/events/{event_id:uuid}", tags=["events"], status_code=204)
async def delete_event(
    event_id: FromPath[UUID],
    caller: NamedDependency[Caller],
    ingest: NamedDependency[IngestClient],
) -> None:
    """Removes an event; what was derived from it is corrected."""
    caller.principal.require_scope("events:write")
    reply = await ingest.delete_event(caller.principal, DeleteEventRequest(event_id=str(event_id)))
    if not reply.was_removed:
        raise NotFound("There is no such event.")


HANDLERS: Final[list[HTTPRouteHandler]] = [list_events, delete_event]
