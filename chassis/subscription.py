"""The pull loop: receives batches of announcements, acks after the effect is committed.

Errors decide what happens to a message. Infrastructure that is away (retry.TRANSIENT): sent back
with a growing delay, many times. Anything else: sent back a few times, then a dead letter.
Undecodable or Invalid: a dead letter at once. A batch that fails is retried one by one first, so
that one bad message never holds up its neighbours.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Subscribed
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.bus import Bus
from chassis.clock import MICROSECONDS, Clock, to_us
from chassis.deadletters import DeadLetters
from chassis.errors import Invalid
from chassis.log import get_logger
from chassis.retry import TRANSIENT

log = get_logger(__name__)

PULL_EXPIRES_SECONDS: Final = 20.0
# Without heartbeats a pull that the server forgot is invisible.
HEARTBEAT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 3 * HEARTBEAT_SECONDS
# Longest a quiet loop takes to notice that it should stop or that NATS came back.
WAKE_SECONDS: Final = 0.25
MAX_ATTEMPTS: Final = 5
MAX_TRANSIENT_ATTEMPTS: Final = 200
MAX_DELAY_SECONDS: Final = 30.0
NANOSECONDS: Final = 1_000_000_000

_handled = telemetry.meter.create_counter("timeloom.consumer.handled", "{message}")
_retried = telemetry.meter.create_counter("timeloom.consumer.retried", "{message}")
_dead = telemetry.meter.create_counter("timeloom.consumer.dead", "{message}")
_duration = telemetry.meter.create_histogram("timeloom.consumer.duration", "s")
_pending_age = telemetry.meter.create_gauge("timeloom.consumer.pending_age", "s")

# Statuses that end a pull without meaning anything: nothing there, or the time it waited is over.
_ORDINARY_ENDS: Final = {"404", "408"}
_HEARTBEAT: Final = "100"


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One received message. `attempt` counts deliveries from 1; `stored_us` is when the stream took it."""

    message_id: str
    subject: str
    data: bytes
    type: str
    traceparent: str
    attempt: int
    stream_seq: int
    reply: str
    headers: dict[str, str]
    stored_us: int = 0


Handler = Callable[[Sequence[Delivery]], Awaitable[None]]


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer listens to; `consumer` is the durable name, shared by all replicas.

    `handler` gets n ≥ 1 deliveries in stream order and commits all of them or raises.
    """

    stream: str
    consumer: str
    subjects: tuple[str, ...]
    handler: Handler
    max_batch: int = 100
    ack_wait_seconds: float = 30.0
    max_attempts: int = MAX_ATTEMPTS


class PullLoop:
    """Runs one subscription until told to stop; finishes the batch in hand."""

    def __init__(
        self, *, bus: Bus, subscription: Subscription, dead_letters: DeadLetters, clock: Clock
    ) -> None:
        self._bus = bus
        self._spec = subscription
        self._dead_letters = dead_letters
        self._clock = clock
        # Bounded by the pull requests: never more than two batches are asked for.
        self._received: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._outstanding = 0
        self._heard = 0.0
        self._is_lost = False
        # When the oldest message that was received and has not taken effect was stored; 0 for none.
        self._oldest_us = 0
        self._trouble = 0
        self._attributes = {"timeloom.consumer": subscription.consumer}

    async def run(self, stopping: asyncio.Event) -> None:
        """Creates the consumer when its stream exists, then handles until `stopping` is set."""
        if not await self._ensure_consumer(stopping):
            return
        inbox = self._bus.client.new_inbox()
        subscription = await self._bus.client.subscribe(inbox, cb=self._on_message)
        generation = self._bus.generation
        self._outstanding = 0
        try:
            while not stopping.is_set():
                if self._received:
                    await self._handle_received()
                    continue
                if generation != self._bus.generation or self._is_silent() or self._is_lost:
                    if self._is_lost:
                        await _pause(stopping, WAKE_SECONDS)
                    generation = self._bus.generation
                    self._outstanding = 0
                    if not await self._ensure_consumer(stopping):
                        return
                if self._outstanding <= 0:
                    await self._pull(inbox)
                await self._wait()
        finally:
            await self._leave(subscription)

    async def _leave(self, subscription: Subscribed) -> None:
        # What was received and not begun goes back at once, instead of after the ack wait.
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
        for message in self._received:
            await self._reply(_delivery(message), b"-NAK")
        self._received.clear()

    async def _ensure_consumer(self, stopping: asyncio.Event) -> bool:
        spec = self._spec
        config = ConsumerConfig(
            durable_name=spec.consumer,
            filter_subject=spec.subjects[0] if len(spec.subjects) == 1 else None,
            filter_subjects=list(spec.subjects) if len(spec.subjects) > 1 else None,
            ack_policy=AckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.ALL,
            ack_wait=spec.ack_wait_seconds,
            max_ack_pending=spec.max_batch * 8,
            # Giving up is decided here, where the dead letter is written, not by the server.
            max_deliver=-1,
        )
        wait = 0.05
        while not stopping.is_set():
            try:
                await self._bus.client.jetstream().add_consumer(spec.stream, config)
            except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
                # The owner of the stream may start later than we do.
                if wait > 1:
                    log.info("consumer.waiting", consumer=spec.consumer, reason=str(error))
                if isinstance(error, nats.js.errors.NotFoundError):
                    await self._bus.restore_streams()
                await _pause(stopping, wait)
                wait = min(wait * 2, 5.0)
            else:
                self._heard = self._clock.monotonic()
                self._is_lost = False
                return True
        return False

    def _is_silent(self) -> bool:
        return self._clock.monotonic() - self._heard > SILENCE_SECONDS

    async def _pull(self, inbox: str) -> None:
        body = msgspec.json.encode(
            {
                "batch": self._spec.max_batch,
                "expires": int(PULL_EXPIRES_SECONDS * NANOSECONDS),
                "idle_heartbeat": int(HEARTBEAT_SECONDS * NANOSECONDS),
            }
        )
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._spec.stream}.{self._spec.consumer}"
        with contextlib.suppress(nats.errors.Error):
            await self._bus.client.publish(subject, body, reply=inbox)
            self._outstanding = self._spec.max_batch

    async def _on_message(self, message: Msg) -> None:
        self._heard = self._clock.monotonic()
        status = (message.headers or {}).get("Status")
        if status is None or message.reply.startswith("$JS.ACK."):
            self._received.append(message)
            self._outstanding -= 1
        elif status == _HEARTBEAT:
            return
        else:
            self._outstanding = 0
            # 409 and 503: the consumer or its stream was deleted, or their leader moved.
            self._is_lost = self._is_lost or status not in _ORDINARY_ENDS
        self._arrived.set()

    async def _wait(self) -> None:
        self._arrived.clear()
        if not self._received:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAKE_SECONDS):
                    await self._arrived.wait()
        if not self._received:
            self._measure()

    async def _handle_received(self) -> None:
        batch: list[Delivery] = []
        while self._received and len(batch) < self._spec.max_batch:
            delivery = _delivery(self._received.popleft())
            if delivery.headers.get("Replay-Consumer", self._spec.consumer) == self._spec.consumer:
                batch.append(delivery)
            else:
                # Another consumer's dead letter is replayed; here the message had its turn.
                await self._reply(delivery, b"+ACK")
        if not batch:
            return
        self._oldest_us = batch[0].stored_us
        # Here too: of a backlog that is handled without a pause, the age is how far behind it is.
        self._measure()
        started = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            keep_alive = group.create_task(self._keep_alive(batch))
            try:
                await self._handle(batch)
            finally:
                keep_alive.cancel()
        _duration.record(self._clock.monotonic() - started, self._attributes)

    def _measure(self) -> None:
        age = (self._clock.now_us() - self._oldest_us) / MICROSECONDS if self._oldest_us else 0.0
        _pending_age.set(max(0.0, age), self._attributes)

    async def _keep_alive(self, batch: Sequence[Delivery]) -> None:
        while True:
            await asyncio.sleep(self._spec.ack_wait_seconds / 3)
            self._measure()
            for delivery in batch:
                await self._reply(delivery, b"+WPI")

    async def _handle(self, batch: Sequence[Delivery]) -> None:
        try:
            parents = [d.traceparent for d in batch if d.traceparent]
            with telemetry.span("bus receive", SpanKind.CONSUMER, parents=parents) as span:
                span.set_attributes({**self._attributes, "timeloom.batch.size": len(batch)})
                await self._spec.handler(batch)
        except TRANSIENT as error:
            await self._send_back(batch, error)
        except Exception as error:  # noqa: BLE001  # the top of a loop: each cause has its end below
            if len(batch) == 1:
                await self._give_up_or_retry(batch[0], error)
                return
            for delivery in batch:
                await self._handle([delivery])
        else:
            self._trouble = 0
            self._oldest_us = 0
            _handled.add(len(batch), self._attributes)
            for delivery in batch:
                await self._reply(delivery, b"+ACK")

    async def _send_back(self, batch: Sequence[Delivery], error: BaseException) -> None:
        self._trouble += 1
        delay = min(0.1 * 2 ** min(self._trouble, 10), MAX_DELAY_SECONDS)
        log.warning(
            "consumer.retrying",
            consumer=self._spec.consumer,
            error=repr(error),
            messages=len(batch),
        )
        for delivery in batch:
            if delivery.attempt >= max(MAX_TRANSIENT_ATTEMPTS, self._spec.max_attempts):
                await self._bury(delivery, "exhausted", error)
            else:
                await self._nak(delivery, delay)
        # The dependency is away for everyone: a short rest beats hammering it.
        await asyncio.sleep(min(delay, 1.0))

    async def _give_up_or_retry(self, delivery: Delivery, error: Exception) -> None:
        if isinstance(error, DecodeError):
            await self._bury(delivery, "undecodable", error)
        elif isinstance(error, Invalid):
            await self._bury(delivery, "permanent", error)
        elif delivery.attempt >= self._spec.max_attempts:
            await self._bury(delivery, "exhausted", error)
        else:
            log.error("consumer.failed", consumer=self._spec.consumer, exc_info=error)
            await self._nak(delivery, min(0.2 * 2 ** min(delivery.attempt, 10), MAX_DELAY_SECONDS))

    async def _nak(self, delivery: Delivery, delay_seconds: float) -> None:
        _retried.add(1, self._attributes)
        self._oldest_us = self._oldest_us or delivery.stored_us
        body = msgspec.json.encode({"delay": int(delay_seconds * NANOSECONDS)})
        await self._reply(delivery, b"-NAK " + body)

    async def _bury(self, delivery: Delivery, cause: str, error: BaseException) -> None:
        """Dead letter first, then term: a crash between the two only repeats the letter."""
        try:
            await self._dead_letters.publish(
                consumer=self._spec.consumer,
                delivery=delivery,
                cause=cause,
                error=error,
                stream=self._spec.stream,
            )
        except TRANSIENT:
            await self._nak(delivery, MAX_DELAY_SECONDS)
            return
        _dead.add(1, self._attributes)
        log.error(
            "consumer.dead_letter", consumer=self._spec.consumer, cause=cause, error=repr(error)
        )
        await self._reply(delivery, b"+TERM")

    async def _reply(self, delivery: Delivery, body: bytes) -> None:
        # A lost ack only means a repeat, which the inbox drops.
        with contextlib.suppress(nats.errors.Error):
            await self._bus.client.publish(delivery.reply, body)


def _delivery(message: Msg) -> Delivery:
    headers = message.headers or {}
    metadata = message.metadata
    return Delivery(
        # A replay has a new id on the bus, but is the same message to the inbox.
        message_id=headers.get("Replay-Of")
        or headers.get("Nats-Msg-Id")
        or f"{metadata.stream}:{metadata.sequence.stream}",
        subject=message.subject,
        data=message.data,
        type=headers.get("ce-type", ""),
        traceparent=headers.get("traceparent", ""),
        attempt=metadata.num_delivered or 1,
        stream_seq=metadata.sequence.stream,
        reply=message.reply,
        headers=headers,
        stored_us=to_us(metadata.timestamp),
    )


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
