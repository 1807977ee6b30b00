"""`GET /v1/live`: the live protocol over WebSocket, as a plain ASGI application.

It stands beside Litestar, not in it, which saves 3 kB for each connection. docs/asyncapi.yaml says
what travels.
"""

import asyncio
import contextlib
from typing import Any, Final
from urllib.parse import parse_qs

from litestar.types import ASGIApp

from chassis.clock import Clock
from chassis.errors import AppError, Exhausted, Unavailable
from chassis.ids import new_id
from services.gateway import problems
from services.gateway.auth import Authenticator, Caller
from services.gateway.connection import Connection, Receive, Send, part
from services.gateway.hub import Hub
from services.gateway.leases import Leases
from services.gateway.mailbox import Mailbox
from services.gateway.payloads.live import (
    BAD_CREDENTIAL,
    SHUTTING_DOWN,
    TOO_MANY_CONNECTIONS,
)
from services.gateway.rate_limit import RateLimits
from services.gateway.seat import Seat
from services.gateway.tickets import Tickets
from services.gateway.tokens import BadCredential

Scope = dict[str, Any]

PATH: Final = "/v1/live"
# For the goodbye; afterwards the connection is dropped without one.
PART_SECONDS: Final = 3.0
REFUSE_SECONDS: Final = 1.0


class WithLive:
    """Sends WebSockets of `/v1/live` one way and everything else the other."""

    def __init__(self, rest: ASGIApp, live: "LiveSocket") -> None:
        self._rest = rest
        self._live = live

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection."""
        is_live = scope["type"] == "websocket" and scope["path"] == PATH
        await (self._live if is_live else self._rest)(scope, receive, send)


class LiveSocket:
    """The ASGI application of `/v1/live`."""

    def __init__(
        self,
        *,
        hub: Hub,
        authenticator: Authenticator,
        tickets: Tickets,
        leases: Leases,
        limits: RateLimits,
        clock: Clock,
        part_seconds: float = PART_SECONDS,
    ) -> None:
        self.hub = hub
        self.authenticator = authenticator
        self.tickets = tickets
        self.leases = leases
        self.limits = limits
        self.clock = clock
        self.part_seconds = part_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection from handshake to end."""
        await receive()
        ticket = parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [""])[0]
        connection = Connection(self, send)
        try:
            caller = await self._caller(scope, ticket)
            caller.principal.require_scope("read")
            connection.seat = Seat(
                caller=caller, mailbox=Mailbox(connection.wake), connection_id=new_id().hex
            )
            await self.hub.enter(connection.seat)
        except AppError as error:
            await _refuse(receive, send, error, is_browser=bool(ticket))
            return
        # The headers hold the credential, and 3 kB that would stay as long as the connection.
        scope["headers"] = []
        await connection.serve(receive)

    async def _caller(self, scope: Scope, ticket: str) -> Caller:
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        try:
            if ticket:
                caller = await self.tickets.redeem(ticket)
            else:
                caller = await self.authenticator.of(headers)
        except BadCredential:
            self.limits.refused(scope["client"][0] if scope.get("client") else "")
            raise
        self.limits.request(caller)
        return caller


async def _refuse(receive: Receive, send: Send, error: AppError, *, is_browser: bool) -> None:
    """An HTTP answer; but scripts in a browser see no more than a close code."""
    if not is_browser:
        status, body, headers = problems.encoded(error)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        pairs.append((b"content-type", problems.MEDIA_TYPE.encode()))
        await send({"type": "websocket.http.response.start", "status": status, "headers": pairs})
        await send({"type": "websocket.http.response.body", "body": body})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFUSE_SECONDS):
                # The answer is out, and then the connection is lost. uvicorn logs an error for
                # every handshake that is refused when the application returns before that.
                await receive()
                await receive()
        return
    match error:
        case Unavailable():
            farewell = SHUTTING_DOWN
        case Exhausted():
            farewell = TOO_MANY_CONNECTIONS
        case _:
            farewell = BAD_CREDENTIAL
    await send({"type": "websocket.accept"})
    await part(send, farewell)
