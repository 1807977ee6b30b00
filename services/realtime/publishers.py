"""The streams realtime owns, and what it publishes to them."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import msgspec
from nats.js.api import RePublish, RetentionPolicy, StorageType, StreamConfig

from chassis import telemetry
from chassis.bus import Bus, OutMessage
from chassis.clock import Clock, to_datetime
from chassis.errors import Unavailable
from chassis.log import get_logger
from chassis.retry import TRANSIENT
from protos.realtime.v1.announcements_pb2 import PresenceChanged
from protos.realtime.v1.realtime_pb2 import LiveMessage
from protos.realtime.v1.realtime_pb2 import Presence as PresenceMessage
from services.realtime.domain.channels import ALL_ORGS, CONTROL
from services.realtime.domain.history import epoch_of
from services.realtime.domain.live import EpochChanged, LiveEvent, Outgoing
from services.realtime.domain.presence import Change

log = get_logger(__name__)

LIVE: Final = "LIVE"
PRESENCE: Final = "PRESENCE"
_MEBIBYTE: Final = 1024 * 1024
# Both must be longer than any pause after which a message could come again.
DUPLICATE_SECONDS: Final = 120.0
LIVE_SECONDS: Final = 600.0
LIVE_PER_CHANNEL: Final = 1000
PRESENCE_SECONDS: Final = 3600.0
# Longest until a stream that was replaced without a reconnect is noticed.
LOOK_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.1

_encode: Final = msgspec.json.Encoder().encode
_published = telemetry.meter.create_counter("timeloom.live.published", "{message}")


def live_stream(replicas: int = 1) -> StreamConfig:
    """The history window; the stream itself hands every message on to `rt.v1.…`, sequence included.

    In a cluster it lives on disk: a memory stream that lost all its members there comes back under
    its old creation time and would use the offsets of an epoch twice.
    """
    return StreamConfig(
        name=LIVE,
        subjects=["live.v1.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.MEMORY if replicas == 1 else StorageType.FILE,
        num_replicas=replicas,
        max_age=LIVE_SECONDS,
        max_msgs_per_subject=LIVE_PER_CHANNEL,
        max_bytes=128 * _MEBIBYTE,
        duplicate_window=DUPLICATE_SECONDS,
        allow_direct=True,
        allow_atomic=True,
        republish=RePublish(src="live.v1.>", dest="rt.v1.>"),
    )


def presence_stream(replicas: int = 1) -> StreamConfig:
    """Changes of presence, for whoever wants to know."""
    return StreamConfig(
        name=PRESENCE,
        subjects=["presence.v1.*"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_age=PRESENCE_SECONDS,
        max_bytes=64 * _MEBIBYTE,
        duplicate_window=DUPLICATE_SECONDS,
        allow_direct=True,
        allow_atomic=True,
    )


class Streams:
    """Declares both streams and notices when LIVE was made anew, which every NATS restart does."""

    def __init__(self, *, bus: Bus, clock: Clock, replicas: int) -> None:
        self._bus = bus
        self._clock = clock
        self._replicas = replicas
        self._epoch = ""
        self._doubted = asyncio.Event()

    def doubt(self) -> None:
        """Says that a publish failed: LIVE may be another one now."""
        self._doubted.set()

    async def declare(self) -> None:
        """Makes both streams or brings them to their configuration; from then on the bus does.

        Raises:
            Unavailable, nats.errors.Error: NATS is away; safe to repeat.
        """
        await self._bus.ensure_stream(presence_stream(self._replicas))
        await self._bus.ensure_stream(live_stream(self._replicas))
        await self.notice()

    async def notice(self) -> None:
        """Tells every hub when LIVE is not the one known so far; of all replicas one is heard.

        Raises:
            Unavailable: LIVE can't be asked, or the notice is not known to be stored.
        """
        epoch = epoch_of((await self._bus.stream_state(LIVE)).created)
        if epoch == self._epoch:
            return
        event = LiveEvent(ALL_ORGS, CONTROL, "epoch.changed", EpochChanged(epoch=epoch))
        outgoing = Outgoing(event, f"epoch:{epoch}", telemetry.traceparent())
        await self._bus.publish([live_message(outgoing, self._clock.now_us())])
        log.info("live.epoch", epoch=epoch)
        self._epoch = epoch

    async def watch(self, stopping: asyncio.Event) -> None:
        """Looks after every reconnect, after a doubt and now and then, until stopped."""
        generation = self._bus.generation
        looked = self._clock.monotonic()
        while not stopping.is_set():
            is_due = self._clock.monotonic() - looked > LOOK_SECONDS
            if generation != self._bus.generation or self._doubted.is_set() or is_due:
                reached = self._bus.generation
                self._doubted.clear()
                try:
                    await self.notice()
                    generation, looked = reached, self._clock.monotonic()
                except TRANSIENT as error:
                    log.warning("live.stream_away", error=repr(error))
                    self._doubted.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await stopping.wait()

    async def check(self) -> None:
        """For readiness: raises Unavailable when NATS is away or LIVE can't be had."""
        await self._bus.check()
        await self._bus.stream_state(LIVE)


class LivePublisher:
    """Puts messages on channels."""

    def __init__(self, *, bus: Bus, streams: Streams, clock: Clock) -> None:
        self._bus = bus
        self._streams = streams
        self._clock = clock

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """All of them, in order; n ≥ 0. Repeats within DUPLICATE_SECONDS are dropped.

        Raises:
            Unavailable: not known to be stored.
        """
        if not outgoing:
            return
        now_us = self._clock.now_us()
        try:
            await self._bus.publish([live_message(one, now_us) for one in outgoing])
        except Unavailable:
            self._streams.doubt()
            raise
        for one in outgoing:
            _published.add(1, {"timeloom.channel": one.event.channel.kind})


def live_message(outgoing: Outgoing, at_us: int) -> OutMessage:
    """What travels: the data is serialized here, once for all who will see it."""
    event = outgoing.event
    payload = LiveMessage(event=event.event, data_json=_encode(event.data), at_us=at_us)
    headers = {"ce-type": payload.DESCRIPTOR.full_name}
    if outgoing.traceparent:
        headers["traceparent"] = outgoing.traceparent
    return OutMessage(
        f"live.v1.{event.org_id}.{event.channel.name}",
        payload.SerializeToString(),
        outgoing.message_id,
        headers,
    )


class PresencePublisher:
    """Announces changes of presence to the suite."""

    def __init__(self, *, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    async def publish(self, changes: Sequence[Change]) -> None:
        """Changes that have a presence; the same one twice is one announcement.

        Raises:
            Unavailable: not known to be stored.
        """
        messages = [message for one in changes if (message := self._message(one))]
        if messages:
            await self._bus.publish(messages)

    def _message(self, change: Change) -> OutMessage | None:
        presence = change.presence
        if presence is None:
            return None
        fact = PresenceChanged(
            org_id=str(change.org_id),
            presence=PresenceMessage(
                user_id=str(presence.user_id),
                state=presence.state,
                connections=presence.connections,
                since_us=presence.since_us,
            ),
        )
        subject = f"presence.v1.{change.org_id}"
        identity = f"presence:{change.org_id}:{presence.user_id}:{presence.since_us}"
        headers = {
            "ce-specversion": "1.0",
            "ce-id": identity,
            "ce-type": fact.DESCRIPTOR.full_name,
            "ce-source": "timeloom/realtime",
            "ce-time": to_datetime(self._clock.now_us()).isoformat(),
            "ce-subject": subject,
        }
        return OutMessage(subject, fact.SerializeToString(), identity, headers)
