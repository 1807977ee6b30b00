"""The ASGI application and the server it runs on."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

import uvicorn
from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.types import ControllerRouterHandler
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from chassis.health import QuietServer
from chassis.settings import split_listen
from services.gateway import problems
from services.gateway.http.openapi import openapi
from services.gateway.http.request import StrictRequest
from services.gateway.payloads.decode import Malformed
from services.gateway.settings import Settings

# Agents post every few seconds; a connection that survives the pause saves them the handshake.
KEEP_ALIVE_SECONDS: Final = 75
BACKLOG: Final = 2048
# How long bytes may wait for a client to take them.
UNTAKEN_SECONDS: Final = 30


def application(
    *,
    handlers: Sequence[ControllerRouterHandler],
    dependencies: Mapping[str, Provide],
    settings: Settings,
) -> Litestar:
    """Every handler; `dependencies` are what handlers may take by name."""
    cors = None
    if settings.allowed_origins:
        cors = CORSConfig(
            allow_origins=settings.allowed_origins,
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-API-Key"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    return Litestar(
        list(handlers),
        dependencies=dict(dependencies),
        exception_handlers={Exception: problems.respond},
        request_class=StrictRequest,
        request_max_body_size=settings.body_limit_bytes,
        openapi_config=openapi(),
        cors_config=cors,
        logging_config=None,
    )


class _BoundServer(QuietServer):
    """uvicorn on a socket that is ours already, so that a taken port is our error, not an exit."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves on the socket of the constructor."""
        await super().startup([*(sockets or ()), self._listener])


class _Sockets(WebSocketsSansIOProtocol):
    """uvicorn gives a handshake that it can't read no answer, and keeps its socket open."""

    def data_received(self, data: bytes) -> None:
        """Called with what the client sent."""
        super().data_received(data)
        if self.conn.handshake_exc is None or self.handshake_initiated:
            return
        # Long cookies of other pages on the same host are the usual reason.
        error = Malformed(f"The handshake can't be read: {self.conn.handshake_exc}.")
        status, body, _ = problems.encoded(error)
        head = (
            f"HTTP/1.1 {status} Bad Request\r\nContent-Type: {problems.MEDIA_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class HttpServer:
    """uvicorn with httptools and websockets-sansio, the pair that measured best (README)."""

    def __init__(self, *, app: Any, settings: Settings) -> None:
        host, port = split_listen(settings.listen)
        self._address = (host, port)
        self._config = uvicorn.Config(
            app,
            http="httptools",
            ws=_Sockets,
            # A client that says more than this at once is no client of ours.
            ws_max_size=64 * 1024,
            # Compression would take 64 kB and more for each connection.
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies or None,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            # Less than the drain, so that the relays still get their share of it.
            timeout_graceful_shutdown=max(1, int(settings.drain_seconds * 0.6)),
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Serves until stopped, then lets running requests end.

        Raises:
            OSError: the address is taken.
        """
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        with socket.create_server(self._address, family=family, backlog=BACKLOG) as listener:
            # Connections inherit it: a client that is there but takes nothing would otherwise keep
            # what we wrote, and its socket, for ever.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_SECONDS * 1000)
            listener.setblocking(False)  # noqa: FBT003  # the standard library's own signature
            await _BoundServer(self._config, listener).run_until(stopping)
