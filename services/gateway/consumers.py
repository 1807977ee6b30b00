"""What the gateway hears: its work, and what the accounts stream says about cached credentials."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Protocol

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.ids import new_id
from chassis.jobs import JobWorker
from chassis.log import get_logger
from chassis.subscription import Subscription
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement
from services.gateway.publishers import ACCOUNTS_STREAM

log = get_logger(__name__)

HEARTBEAT_SECONDS: Final = 1.0
# Past this without a heartbeat the server has forgotten the consumer.
SILENCE_SECONDS: Final = 3 * HEARTBEAT_SECONDS
LOOK_SECONDS: Final = 0.25
INACTIVE_SECONDS: Final = 30.0


def subscriptions(work: JobWorker) -> list[Subscription]:
    """What replicas share among them."""
    return [work.subscription()]


class AccountsListener(Protocol):
    """Keeps something that announcements of the accounts stream make untrue."""

    def heard(self, fact: AccountsAnnouncement) -> None:
        """One announcement, of this replica or another; may come twice."""

    def missed(self) -> None:
        """Announcements may have been missed: what is kept can't be trusted any more."""


class AccountsWatch:
    """Hears every announcement on every replica, from now on.

    An ephemeral consumer that pushes without acks: what is lost is made up for by `missed`, so
    nothing needs to be remembered between connections.
    """

    def __init__(self, *, bus: Bus, listeners: Sequence[AccountsListener], clock: Clock) -> None:
        self._bus = bus
        self._listeners = tuple(listeners)
        self._clock = clock
        self._heard_at = 0.0
        self._next_delivery = 1

    async def run(self, stopping: asyncio.Event) -> None:
        """Listens until stopped; starts over after a reconnect, a silence or a gap."""
        while not stopping.is_set():
            inbox = self._bus.client.new_inbox()
            subscription = await self._bus.client.subscribe(inbox, cb=self._on_message)
            try:
                if await self._consume(inbox):
                    # Only now is every later announcement sure to arrive.
                    self._tell_missed()
                    await self._until_lost(stopping)
            finally:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()
            await _pause(stopping, LOOK_SECONDS)

    async def _consume(self, inbox: str) -> bool:
        config = ConsumerConfig(
            # The permission to create consumers is for named ones.
            name=f"gateway-watch-{new_id().hex}",
            deliver_subject=inbox,
            deliver_policy=DeliverPolicy.NEW,
            ack_policy=AckPolicy.NONE,
            idle_heartbeat=HEARTBEAT_SECONDS,
            inactive_threshold=INACTIVE_SECONDS,
            mem_storage=True,
        )
        self._next_delivery = 1
        self._heard_at = self._clock.monotonic()
        try:
            await self._bus.client.jetstream().add_consumer(ACCOUNTS_STREAM, config)
        except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
            log.info("accounts_watch.waiting", reason=str(error))
            return False
        return True

    async def _until_lost(self, stopping: asyncio.Event) -> None:
        generation = self._bus.generation
        while not stopping.is_set():
            silence = self._clock.monotonic() - self._heard_at
            if generation != self._bus.generation or silence > SILENCE_SECONDS:
                return
            if self._next_delivery == 0:
                return
            await _pause(stopping, LOOK_SECONDS)

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = self._clock.monotonic()
        if not message.reply or not message.reply.startswith("$JS.ACK"):
            return
        delivered = message.metadata.sequence.consumer
        if delivered != self._next_delivery:
            # A gap: the connection dropped messages. `run` starts over and tells everyone.
            self._next_delivery = 0
            return
        self._next_delivery += 1
        try:
            fact = AccountsAnnouncement.FromString(message.data)
        except DecodeError:
            log.warning("accounts_watch.undecodable", subject=message.subject)
            self._tell_missed()
            return
        for listener in self._listeners:
            listener.heard(fact)

    def _tell_missed(self) -> None:
        for listener in self._listeners:
            listener.missed()


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
