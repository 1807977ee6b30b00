"""The live side of the suite as the hub meets it, in memory: stream, bus and history in one.

It follows services/realtime/README.md: at most once on the bus, offsets over the whole stream,
history by epoch and offset, and a window beyond which nothing is known.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
from nats.aio.msg import Msg

from chassis.bus import Bus
from chassis.clock import MICROSECONDS, Clock, ManualClock
from chassis.errors import Forbidden, Unavailable
from chassis.identity import SERVICE_ROLE, Principal
from protos.realtime.v1.realtime_pb2 import GetHistoryRequest, GetHistoryResponse, LiveMessage
from services.gateway.auth import Caller
from services.gateway.history import History
from services.gateway.hub import Hub
from services.gateway.mailbox import Mailbox
from services.gateway.proofs import Proofs
from services.gateway.seat import Seat
from services.gateway.tokens import BadCredential

ORG = UUID(int=0xA)
OTHER_ORG = UUID(int=0xB)
ADA = UUID(int=0x1)
BEN = UUID(int=0x2)
KEY = UUID(int=0x11)
OTHER_KEY = UUID(int=0x12)


class Kept(NamedTuple):
    """A message in the stream."""

    offset: int
    subject: str
    payload: bytes


class Subscribed:
    """A subscription on the fake bus."""

    pending_msgs = 0
    pending_bytes = 0

    def __init__(self, world: "LiveWorld", subject: str, cb: Callable[[Msg], Awaitable[None]]):
        self.world = world
        self.subject = subject
        self.cb = cb

    def hears(self, subject: str) -> bool:
        return subject == self.subject or (
            self.subject.endswith(">") and subject.startswith(self.subject[:-1])
        )

    async def unsubscribe(self) -> None:
        self.world.subscriptions.remove(self)


class LiveWorld:
    """Publishes, loses, forgets and starts anew, as told."""

    def __init__(self) -> None:
        self.epoch = "e1"
        self.is_connected = True
        self.is_away = False
        self.accounts_are_away = False
        self.generation = 0
        self.kept: list[Kept] = []
        self.trimmed: dict[str, int] = {}
        self.offset = 0
        self.subscriptions: list[Subscribed] = []
        self.asked: list[tuple[Principal, GetHistoryRequest]] = []
        self.lag = 0
        self.roles: dict[UUID, str] = {}
        self.revoked: set[UUID] = set()

    # The bus, as far as the hub uses it.

    @property
    def client(self) -> "LiveWorld":
        return self

    async def subscribe(self, subject: str, cb: Any, **_limits: int) -> Subscribed:
        subscription = Subscribed(self, subject, cb)
        self.subscriptions.append(subscription)
        return subscription

    async def flush(self, _timeout: float) -> None:
        if not self.is_connected:
            raise TimeoutError

    # The accounts, as the authenticator looks them up.

    async def recheck(self, org_id: UUID, user_id: UUID, credential_id: UUID, /) -> Caller:
        if self.accounts_are_away:
            raise Unavailable
        if credential_id in self.revoked:
            raise BadCredential
        role = self.roles.get(user_id, "owner")
        principal = Principal(org_id=org_id, user_id=user_id, role=role)
        return Caller(principal=principal, is_person=True, expires_at_us=0)

    # The stream.

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        org: UUID = ORG,
        event: str = "session.updated",
        traceparent: str = "",
        is_lost: bool = False,
    ) -> int:
        """Keeps a message and, unless it is lost, delivers it; its offset."""
        subject = f"{org}.{channel}"
        previous = max((m.offset for m in self.kept if m.subject == subject), default=0)
        self.offset += 1
        message = LiveMessage(event=event, data_json=msgspec.json.encode(data), at_us=MICROSECONDS)
        self.kept.append(Kept(self.offset, subject, message.SerializeToString()))
        if self.is_connected and not is_lost:
            headers = {"Nats-Sequence": str(self.offset), "Nats-Last-Sequence": str(previous)}
            if traceparent:
                headers["traceparent"] = traceparent
            await self.deliver(f"rt.v1.{subject}", message.SerializeToString(), headers)
        return self.offset

    async def deliver(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        """Hands a message to whoever listens, without keeping it."""
        message = Msg(cast("Any", None), subject, "", payload, headers)
        for subscription in list(self.subscriptions):
            if subscription.hears(subject):
                await subscription.cb(message)

    async def renew(self) -> None:
        """The stream is made anew, as after a restart of NATS, and everybody is told."""
        self.epoch = f"e{int(self.epoch[1:]) + 1}"
        self.kept.clear()
        self.trimmed.clear()
        self.offset = 0
        await self.tell_everybody()

    async def tell_everybody(self) -> None:
        """`epoch.changed`: every hub resumes its channels."""
        said = LiveMessage(event="epoch.changed", data_json=b"{}").SerializeToString()
        await self.deliver("rt.v1.all.ctl", said, {"Nats-Sequence": "1"})

    def trim(self) -> None:
        """Everything kept so far ages out."""
        for message in self.kept:
            self.trimmed[message.subject] = message.offset
        self.kept.clear()

    # The history.

    async def get_history(self, by: Principal, request: GetHistoryRequest, /) -> GetHistoryResponse:
        self.asked.append((by, request))
        await asyncio.sleep(0)
        if self.is_away:
            raise Unavailable
        self._entitle(by, request.channel)
        subject = f"{by.org_id}.{request.channel}"
        end = max(self.offset - self.lag, 0)
        answer = GetHistoryResponse(is_recovered=True, epoch=self.epoch, offset=end)
        if not request.since_epoch:
            return answer
        if request.since_epoch != self.epoch or self.trimmed.get(subject, 0) > request.since_offset:
            answer.is_recovered = False
            return answer
        found = [
            message
            for message in self.kept
            if message.subject == subject and request.since_offset < message.offset <= end
        ]
        for message in found[: request.limit]:
            said = LiveMessage.FromString(message.payload)
            said.offset = message.offset
            answer.messages.append(said)
        if len(found) > request.limit:
            answer.has_more = True
            answer.offset = answer.messages[-1].offset
        return answer

    @staticmethod
    def _entitle(by: Principal, channel: str) -> None:
        is_own = channel == f"user.{by.user_id}"
        is_theirs = channel in {"org", "jobs"} and by.is_at_least("manager")
        if not (is_own or is_theirs or by.role == SERVICE_ROLE):
            raise Forbidden("This channel is not for you.")


def hub_on(world: LiveWorld, clock: Clock | None = None) -> Hub:
    """A hub that hears this world."""
    return Hub(
        bus=cast("Bus", world),
        history=History(world),
        proofs=Proofs(world, first_wait_seconds=0.0),
        clock=clock or ManualClock(),
    )


class Listening:
    """A client without a wire: it takes what its mailbox gets at once, unless told not to."""

    def __init__(
        self,
        hub: Hub,
        *,
        user_id: UUID = ADA,
        org_id: UUID = ORG,
        role: str = "owner",
        credential_id: UUID = KEY,
        expires_at_us: int = 0,
    ) -> None:
        self.hub = hub
        self.is_reading = True
        self.frames: list[dict[str, Any]] = []
        self.texts: list[str] = []
        principal = Principal(
            org_id=org_id, user_id=user_id, role=role, credential_id=str(credential_id)
        )
        caller = Caller(principal=principal, is_person=True, expires_at_us=expires_at_us)
        self.seat = Seat(caller=caller, mailbox=Mailbox(self.read), connection_id="c1")

    def read(self) -> None:
        """Takes what waits."""
        while self.is_reading and (item := self.seat.mailbox.take()):
            self.texts.append(item.text)
            self.frames.append(msgspec.json.decode(item.text))

    async def enter(self) -> "Listening":
        await self.hub.enter(self.seat)
        return self

    def data(self, channel: str | None = None) -> list[Any]:
        """What the messages said, in order."""
        return [
            frame["data"]
            for frame in self.frames
            if frame["type"] == "message" and channel in {None, frame["channel"]}
        ]

    @property
    def farewell(self) -> int | None:
        """The close code it was sent away with."""
        return self.seat.mailbox.farewell.code if self.seat.mailbox.farewell else None


async def settled(*, most: int = 400) -> None:
    """Lets everything run that can run without time passing."""
    for _ in range(most):
        await asyncio.sleep(0)


def frames_of(frames: Collection[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The frames of one type."""
    return [frame for frame in frames if frame["type"] == kind]
