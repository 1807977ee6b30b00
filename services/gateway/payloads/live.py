"""The live protocol: what clients and the gateway say to each other on `/v1/live`.

One JSON object a frame, told apart by `type`. docs/asyncapi.yaml is made from these structs
(`python -m tools.asyncapi`), so their docstrings are what implementers of clients read.
"""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from chassis.errors import Invalid
from services.gateway.payloads.times import instant

ChannelName = Annotated[
    str,
    Meta(
        max_length=64,
        description="`me`, `org`, `jobs` or `space:<id>`",
        examples=["me", "space:0199f3a2-7c1d-7e7c-a9d3-1f6f0b9ce2aa"],
    ),
]
PositionText = Annotated[
    str,
    Meta(
        max_length=128,
        description="`<epoch>:<offset>`; opaque to clients. Offsets grow but skip: a jump is no "
        "loss",
        examples=["1763806502331201:4711"],
    ),
]
PresenceState = Literal["online", "away", "idle"]


class Subscribe(msgspec.Struct, tag="subscribe", frozen=True, forbid_unknown_fields=True):
    """Asks for a channel, from `since` on when given. Again: starts it anew from there."""

    channel: ChannelName
    since: PositionText | None = None


class Unsubscribe(msgspec.Struct, tag="unsubscribe", frozen=True, forbid_unknown_fields=True):
    """Ends a subscription; what is on its way may still arrive."""

    channel: ChannelName


class Ping(msgspec.Struct, tag="ping", frozen=True, forbid_unknown_fields=True):
    """Asks for a `pong`; for clients that cannot send WebSocket pings."""


class Refresh(msgspec.Struct, tag="refresh", frozen=True, forbid_unknown_fields=True):
    """Replaces the credential before it expires; it must be of the same person."""

    token: Annotated[str, Meta(max_length=4096, description="an access token or API key")]


class SetPresence(msgspec.Struct, tag="presence", frozen=True, forbid_unknown_fields=True):
    """Says how present the person is here; the best of all their connections counts."""

    state: PresenceState


ClientMessage = Subscribe | Unsubscribe | Ping | Refresh | SetPresence


class Subscribed(msgspec.Struct, tag="subscribed", frozen=True):
    """Where the client stands on a channel: everything after `position` follows this message.

    With `recovered: false` something may be missing before it: reload what you show. It may come
    again at any time, when the gateway noticed that it missed something it cannot make good.
    """

    channel: ChannelName
    position: PositionText
    recovered: bool


class Message(msgspec.Struct, tag="message", frozen=True):
    """Something happened; `position` is what to give as `since` after a reconnect."""

    channel: ChannelName
    position: PositionText
    event: Annotated[str, Meta(description="what happened", examples=["session.updated"])]
    data: dict[str, Any]
    at: Annotated[str, Meta(description="when it was announced, RFC 3339")]


class Pong(msgspec.Struct, tag="pong", frozen=True):
    """The answer to `ping`."""


class Refreshed(msgspec.Struct, tag="refreshed", frozen=True):
    """The new credential holds; `expires_at` is null when it does not expire."""

    expires_at: Annotated[str, Meta(description="RFC 3339")] | None


ErrorCode = Literal[
    "malformed",
    "unknown_channel",
    "forbidden",
    "too_many_subscriptions",
    "too_many_messages",
    "unavailable",
    "token_expiring",
    "bad_token",
    "internal",
]


class Error(msgspec.Struct, tag="error", frozen=True):
    """Something was refused, or needs attention; the connection stays.

    `token_expiring` comes 30 s before the end of the credential: send `refresh`. With `forbidden`
    or `unavailable` and a `channel`, that subscription does not exist (any more).
    """

    code: ErrorCode
    message: str
    channel: ChannelName | None = None


class Bye(msgspec.Struct, tag="bye", frozen=True):
    """The gateway closes next, with the same code. `reconnect` says whether to come back."""

    code: int
    reconnect: bool


ServerMessage = Subscribed | Message | Pong | Refreshed | Error | Bye


class Farewell(msgspec.Struct, frozen=True):
    """Why the gateway closes a connection. 3000–3499 invite to come back, the others do not."""

    code: int
    reason: str

    @property
    def reconnect(self) -> bool:
        return 3000 <= self.code < 3500


SHUTTING_DOWN: Final = Farewell(3001, "shutting down")
EXPIRED: Final = Farewell(3005, "credential expired")
SLOW_CONSUMER: Final = Farewell(3008, "slow consumer")
POSITION_LOST: Final = Farewell(3010, "position lost")
REVOKED: Final = Farewell(3503, "credential revoked")
TOO_MANY_CONNECTIONS: Final = Farewell(3504, "too many connections")
TOO_MANY_ERRORS: Final = Farewell(3509, "too many errors")
BAD_CREDENTIAL: Final = Farewell(4401, "bad credential")

FAREWELLS: Final = (
    SHUTTING_DOWN,
    EXPIRED,
    SLOW_CONSUMER,
    POSITION_LOST,
    REVOKED,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_ERRORS,
    BAD_CREDENTIAL,
)

# Never sent: the client left by itself.
GONE: Final = Farewell(1000, "gone")

# Longer frames are refused by the server too; servers may change.
MAX_FRAME_CHARACTERS: Final = 64 * 1024
_decoder: Final[msgspec.json.Decoder[ClientMessage]] = msgspec.json.Decoder(ClientMessage)
_encoder: Final = msgspec.json.Encoder()


def parse(frame: str | bytes) -> ClientMessage:
    """One frame of a client.

    Raises:
        Invalid: it is no message of the protocol; says what is wrong.
    """
    if len(frame) > MAX_FRAME_CHARACTERS:
        raise Invalid("The frame is longer than 64 kB.")
    try:
        return _decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Invalid(str(error) or "The frame is no JSON.") from error


def encode(message: ServerMessage) -> str:
    """The frame of a server message."""
    return _encoder.encode(message).decode()


class Position(msgspec.Struct, frozen=True, gc=False):
    """How far a channel was heard: the epoch names one life of the stream behind it."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


def parse_position(text: str) -> Position:
    """The position a client gives as `since`.

    Raises:
        Invalid: it is not one of ours.
    """
    epoch, _, offset = text.rpartition(":")
    if not epoch or not (offset.isascii() and offset.isdigit()) or len(offset) > 19:  # 64 bits
        raise Invalid.field("since", "must be a position this interface gave")
    return Position(epoch, int(offset))


def wire_channel(public: str, user_id: UUID) -> str:
    """The channel below the organization that a client's name stands for.

    Raises:
        Invalid: there are no channels of that name.
    """
    if public == "me":
        return f"user.{user_id}"
    if public in {"org", "jobs"}:
        return public
    kind, _, identity = public.partition(":")
    if kind == "space":
        try:
            # Canonical text only: an id must never be able to reach into a subject.
            return f"space.{UUID(identity)}"
        except ValueError:
            pass
    raise Invalid.field("channel", "must be me, org, jobs or space:<id>")


def public_channel(wire: str) -> str:
    """The name clients know a channel by."""
    kind, _, identity = wire.partition(".")
    if kind == "user":
        return "me"
    return f"space:{identity}" if kind == "space" else wire


def encode_message(
    *, wire: str, position: Position, event: str, data_json: bytes, at_us: int
) -> str:
    """The frame of a `message`; `data_json` is spliced in as it is, on one line."""
    head = _encoder.encode(
        {
            "type": "message",
            "channel": public_channel(wire),
            "position": str(position),
            "event": event,
            "at": instant(at_us),
        }
    )
    # A newline inside JSON is only white space, and would end the line of a server-sent event.
    data = data_json.replace(b"\n", b" ").replace(b"\r", b" ") or b"{}"
    return (head[:-1] + b',"data":' + data + b"}").decode()
