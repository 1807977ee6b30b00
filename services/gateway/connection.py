"""One live connection over WebSocket: a task that reads, and one while there is something to write."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.clock import Clock
from chassis.errors import AppError, Exhausted, Invalid, Unavailable
from chassis.log import get_logger
from services.gateway.auth import Authenticator
from services.gateway.hub import Hub
from services.gateway.leases import Leases
from services.gateway.mailbox import Outgoing
from services.gateway.payloads.live import (
    TOO_MANY_ERRORS,
    Bye,
    ClientMessage,
    Error,
    ErrorCode,
    Farewell,
    Ping,
    Pong,
    Refresh,
    Refreshed,
    SetPresence,
    Subscribe,
    Unsubscribe,
    encode,
    parse,
    parse_position,
    wire_channel,
)
from services.gateway.payloads.times import instant_or_none
from services.gateway.seat import Seat
from services.gateway.tokens import BadCredential

log = get_logger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MESSAGES_PER_SECOND: Final = 30.0
# Wrong or too many messages in a row before the connection ends.
MAX_STRIKES: Final = 10

PONG: Final = Outgoing(encode(Pong()))


class TooMany(Exhausted):
    """More messages than a connection may send."""


class Surroundings(Protocol):
    """What every connection of a process shares; `part_seconds` is the time for a goodbye."""

    hub: Hub
    authenticator: Authenticator
    leases: Leases
    clock: Clock
    part_seconds: float


async def part(send: Send, farewell: Farewell) -> None:
    """Says goodbye and closes."""
    bye = encode(Bye(farewell.code, farewell.reconnect))
    await send({"type": "websocket.send", "text": bye})
    await send({"type": "websocket.close", "code": farewell.code, "reason": farewell.reason})


class Connection:
    """One accepted WebSocket."""

    __slots__ = (
        "_app",
        "_heard_at",
        "_is_open",
        "_leash",
        "_send",
        "_spent",
        "_strikes",
        "_writing",
        "seat",
    )

    seat: Seat

    def __init__(self, app: Surroundings, send: Send) -> None:
        self._app = app
        self._send = send
        # Nothing may be written before the handshake is.
        self._is_open = False
        self._leash: asyncio.Timeout | None = None
        self._writing: asyncio.Task[None] | None = None
        self._strikes = 0
        self._spent = 0.0
        self._heard_at = 0.0

    async def serve(self, receive: Receive) -> None:
        """Reads until either side ends it; the seat was taken and is given back here."""
        seat = self.seat
        self._app.leases.changed(seat)
        try:
            async with asyncio.timeout(None) as self._leash:
                await self._send({"type": "websocket.accept"})
                self._is_open = True
                if seat.mailbox.has_news:
                    self.wake()
                while (event := await receive())["type"] != "websocket.disconnect":
                    await self._hear(event)
        except (TimeoutError, OSError):
            # The goodbye did not get through, or the client was gone before the handshake.
            log.debug("live.cut", connection=seat.connection_id)
        finally:
            self._leash = None
            if self._writing is not None:
                self._writing.cancel()
            self._app.hub.leave(seat)
            self._app.leases.left(seat)

    def wake(self) -> None:
        """There is something to write, or to end."""
        if self.seat.mailbox.farewell is not None and self._leash is not None:
            self._leash.reschedule(asyncio.get_running_loop().time() + self._app.part_seconds)
        if self._writing is None and self._is_open:
            self._writing = self._app.hub.start(self._write())

    async def _write(self) -> None:
        mailbox = self.seat.mailbox
        # Its deadline is kept by the hub (look_after), which costs a third of asyncio.timeout.
        mailbox.busy_since = self._app.clock.monotonic()
        try:
            while item := mailbox.take():
                if item.parent:
                    await self._write_traced(item)
                else:
                    await self._send({"type": "websocket.send", "text": item.text})
            if mailbox.farewell is not None and self._leash is not None:
                await part(self._send, mailbox.farewell)
        except (OSError, RuntimeError):
            # Gone; the reading side notices, or is cut off.
            mailbox.close()
        finally:
            mailbox.busy_since = 0.0
            self._writing = None

    async def _write_traced(self, item: Outgoing) -> None:
        with telemetry.span("live send", SpanKind.PRODUCER, parents=[item.parent]) as span:
            span.set_attribute("timeloom.channel", item.kind)
            span.set_attribute("timeloom.org.id", str(self.seat.principal.org_id))
            await self._send({"type": "websocket.send", "text": item.text})

    async def _hear(self, event: dict[str, Any]) -> None:
        text = event.get("text")
        frame: str | bytes = event["bytes"] if text is None else text
        channel = None
        try:
            self._count()
            message = parse(frame)
            channel = getattr(message, "channel", None)
            await self._obey(message)
        except AppError as error:
            self._complain(error, channel)
        except Exception:
            log.exception("live.failed")
            self._say(Error("internal", "Something went wrong here.", channel))
        else:
            self._strikes = 0

    def _count(self) -> None:
        """A leaky bucket of MESSAGES_PER_SECOND, that holds one second's worth."""
        now = self._app.clock.monotonic()
        leaked = (now - self._heard_at) * MESSAGES_PER_SECOND
        self._spent = max(self._spent - leaked, 0.0) + 1
        self._heard_at = now
        if self._spent > MESSAGES_PER_SECOND:
            self._spent = MESSAGES_PER_SECOND
            raise TooMany(f"A connection may send {MESSAGES_PER_SECOND:.0f} messages a second.")

    async def _obey(self, message: ClientMessage) -> None:
        hub, seat = self._app.hub, self.seat
        match message:
            case Subscribe():
                name = wire_channel(message.channel, seat.user_id)
                since = parse_position(message.since) if message.since else None
                await hub.subscribe(seat, name, since)
            case Unsubscribe():
                hub.unsubscribe(seat, wire_channel(message.channel, seat.user_id))
            case Ping():
                seat.mailbox.offer(PONG)
            case Refresh():
                await self._refresh(message.token)
            case SetPresence():
                seat.state = message.state
                self._app.leases.changed(seat)

    async def _refresh(self, token: str) -> None:
        caller = await self._app.authenticator.authenticate(token)
        new, old = caller.principal, self.seat.principal
        if (new.org_id, new.user_id) != (old.org_id, old.user_id):
            raise BadCredential("The credential is somebody else's.")
        self.seat.renew(caller)
        ends = caller.expires_at_us
        self._say(Refreshed(instant_or_none(ends)))

    def _say(self, message: Error | Refreshed) -> None:
        self.seat.mailbox.offer(Outgoing(encode(message)))

    def _complain(self, error: AppError, channel: str | None) -> None:
        code = _code(error, channel)
        self._say(Error(code, str(error), channel))
        if code in {"malformed", "unknown_channel", "too_many_messages", "bad_token"}:
            self._strikes += 1
            if self._strikes >= MAX_STRIKES:
                self.seat.mailbox.dismiss(TOO_MANY_ERRORS)


def _code(error: AppError, channel: str | None) -> ErrorCode:
    match error:
        case TooMany():
            return "too_many_messages"
        case Exhausted():
            return "too_many_subscriptions"
        case BadCredential():
            return "bad_token"
        case Unavailable():
            return "unavailable"
        case Invalid():
            is_channel = channel and any(v.field == "channel" for v in error.violations)
            return "unknown_channel" if is_channel else "malformed"
        case _:
            return "forbidden"
