"""One channel as server-sent events: the same hub, frames and positions as the WebSocket.

Each event is a frame of docs/asyncapi.yaml in `data`, with its position as `id`, so that
EventSource resumes by itself.
"""

import asyncio
from typing import Any, Final

from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.ids import new_id
from chassis.log import get_logger
from services.gateway.auth import Caller
from services.gateway.hub import Hub
from services.gateway.leases import Leases
from services.gateway.mailbox import Mailbox, Outgoing
from services.gateway.payloads.live import Bye, Farewell, Position, encode, wire_channel
from services.gateway.seat import Seat

log = get_logger(__name__)

# Proxies close what says nothing for a minute, some after 30 s.
HEARTBEAT_SECONDS: Final = 15.0
HEARTBEAT: Final = b": still here\n\n"
WRITE_SECONDS: Final = 30.0
HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    # nginx would gather events until a buffer is full.
    (b"x-accel-buffering", b"no"),
]


class EventStream:
    """An ASGI response. It holds a seat from `open` on, and gives it back when it was called."""

    def __init__(self, *, hub: Hub, leases: Leases, caller: Caller) -> None:
        self._hub = hub
        self._leases = leases
        self._news = asyncio.Event()
        self._seat = Seat(
            caller=caller, mailbox=Mailbox(self._news.set), connection_id=new_id().hex
        )
        # Nobody can refresh a credential here, so nobody need be warned.
        self._seat.is_warned = True

    async def open(self, channel: str, since: Position | None) -> None:
        """Subscribes, before the status of the response is sent.

        Raises:
            Exhausted, Forbidden, Invalid, Unavailable: as Hub.enter and Hub.subscribe.
        """
        name = wire_channel(channel, self._seat.user_id)
        await self._hub.enter(self._seat)
        try:
            await self._hub.subscribe(self._seat, name, since)
        except BaseException:
            self._hub.leave(self._seat)
            raise
        self._leases.changed(self._seat)

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        """Streams until the client leaves or is sent away."""
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write(send))
                while (await receive())["type"] != "http.disconnect":
                    pass
                writing.cancel()
        except* (OSError, TimeoutError):
            log.debug("live.cut", connection=self._seat.connection_id)
        finally:
            self._hub.leave(self._seat)
            self._leases.left(self._seat)

    async def _write(self, send: Any) -> None:
        mailbox = self._seat.mailbox
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        while (farewell := mailbox.farewell) is None:
            self._news.clear()
            while item := mailbox.take():
                await _send(send, item)
            if not await self._hears():
                await _chunk(send, HEARTBEAT)
        await _chunk(send, goodbye(farewell))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _hears(self) -> bool:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return False
        return True


async def _send(send: Any, item: Outgoing) -> None:
    if not item.parent:
        await _chunk(send, frame(item))
        return
    with telemetry.span("live send", SpanKind.PRODUCER, parents=[item.parent]) as span:
        span.set_attribute("timeloom.channel", item.kind)
        await _chunk(send, frame(item))


async def _chunk(send: Any, body: bytes) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": True})


def frame(item: Outgoing) -> bytes:
    """One event; those without a position leave the last id standing."""
    head = f"id: {item.position}\n" if item.position else ""
    return f"{head}data: {item.text}\n\n".encode()


def goodbye(farewell: Farewell) -> bytes:
    """The last event. EventSource comes back by itself and learns from the status why it may not."""
    return frame(Outgoing(encode(Bye(farewell.code, farewell.reconnect))))
