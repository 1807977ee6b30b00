"""The live connections of one organization in this process, and the one subscription they share."""

import asyncio
from typing import Final
from uuid import UUID

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chassis.bus import Bus
from chassis.errors import Unavailable
from chassis.identity import SERVICE_ROLE, Principal
from protos.realtime.v1.realtime_pb2 import LiveMessage
from services.gateway.channel import Channel
from services.gateway.feed import Arrival, Feed
from services.gateway.seat import Seat

CONTROL: Final = "ctl"
FLUSH_SECONDS: Final = 3
# What nats-py keeps while the loop is busy. Past it messages are lost, which `is_behind` notices.
MAX_PENDING_MESSAGES: Final = 16_384
MAX_PENDING_BYTES: Final = 64 * 1024 * 1024


def arrival_of(message: Msg) -> Arrival:
    """One live message with its place in the order of its subject."""
    headers = message.headers or {}
    said = LiveMessage.FromString(message.data)
    return Arrival(
        offset=int(headers["Nats-Sequence"]),
        previous=int(headers.get("Nats-Last-Sequence", 0)),
        event=said.event,
        data_json=said.data_json,
        at_us=said.at_us,
        traceparent=headers.get("traceparent", ""),
    )


class Organization:
    """Seats by person, channels by wire name, and the subscription of one organization.

    `control`, set by who makes this, hears what the suite tells its gateways.
    """

    control: Feed

    def __init__(self, org_id: UUID, bus: Bus) -> None:
        self.org_id = org_id
        self.channels: dict[str, Channel] = {}
        self.seats: dict[UUID, list[Seat]] = {}
        self._bus = bus
        self._prefix = f"rt.v1.{org_id}."
        self._opening = asyncio.Lock()
        self._subscription: Subscription | None = None
        self._may_have_lost = False

    @property
    def service(self) -> Principal:
        """The gateway's own identity here: it may read any channel of the organization."""
        return Principal(org_id=self.org_id, user_id=UUID(int=0), role=SERVICE_ROLE)

    @property
    def feeds(self) -> list[Feed]:
        return [self.control, *(channel.feed for channel in self.channels.values())]

    def seats_of(self, user_id: UUID | None) -> list[Seat]:
        """The seats of a person, or of everybody for None."""
        if user_id is not None:
            return list(self.seats.get(user_id, ()))
        return [seat for seats in self.seats.values() for seat in seats]

    def take(self, seat: Seat) -> None:
        """Counts a seat in."""
        self.seats.setdefault(seat.user_id, []).append(seat)

    def give_back(self, seat: Seat) -> None:
        """Counts a seat out."""
        seats = self.seats[seat.user_id]
        seats.remove(seat)
        if not seats:
            del self.seats[seat.user_id]

    async def open(self) -> None:
        """Subscribes once; returns when the server knows.

        Raises:
            Unavailable: the bus did not answer.
        """
        async with self._opening:
            if self._subscription is not None:
                return
            try:
                subscription = await self._bus.client.subscribe(
                    f"{self._prefix}>",
                    cb=self._on_message,
                    pending_msgs_limit=MAX_PENDING_MESSAGES,
                    pending_bytes_limit=MAX_PENDING_BYTES,
                )
                self._subscription = subscription
                await self._bus.client.flush(FLUSH_SECONDS)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                await self.close()
                raise Unavailable("Live messages are not available right now.") from error

    async def close(self) -> None:
        """Ends the subscription."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await subscription.unsubscribe()
            except nats.errors.Error:
                # The connection is closed, and the subscription with it.
                return

    async def _on_message(self, message: Msg) -> None:
        name = message.subject.removeprefix(self._prefix)
        if name == CONTROL:
            self.control.arrive(arrival_of(message))
        elif channel := self.channels.get(name):
            channel.feed.arrive(arrival_of(message))
            # nats-py runs through all it has without a pause; the sockets need one to keep up.
            await asyncio.sleep(0)
        self._notice_loss()

    def _notice_loss(self) -> None:
        subscription = self._subscription
        if subscription is None:
            return
        waiting = subscription.pending_msgs
        if (
            waiting >= MAX_PENDING_MESSAGES - 1
            or subscription.pending_bytes > MAX_PENDING_BYTES / 2
        ):
            self._may_have_lost = True
        elif self._may_have_lost and waiting == 0:
            self._may_have_lost = False
            for feed in self.feeds:
                feed.suspect()
