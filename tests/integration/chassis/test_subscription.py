"""The pull loop on a real JetStream: ack after the effect, and an end for every message."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from signal import SIGKILL
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from nats.js.api import ConsumerInfo

from chassis import subscription as subscription_module
from chassis.bus import Bus, OutMessage
from chassis.clock import SystemClock
from chassis.deadletters import DLQ_STREAM, DeadLetters, dlq_stream, fingerprint
from chassis.errors import Conflict, Invalid, Unavailable
from chassis.subscription import Delivery, PullLoop, Subscription
from protos.scheduler.v1.announcements_pb2 import RunReported
from tests.integration.chassis.streams import stream
from tests.support.eventually import eventually
from tests.support.servers import Stores

CLOCK = SystemClock()
CONSUMER = "sample-alpha-all"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Consumer:
    """A handler that remembers what took effect, and fails as told."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.batches: list[list[int]] = []
        self.attempts: dict[int, int] = {}
        self.fails: dict[int, BaseException] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, batch: Sequence[Delivery]) -> None:
        numbers = [int(RunReported.FromString(one.data).run_id) for one in batch]
        self.batches.append(numbers)
        for delivery, number in zip(batch, numbers, strict=True):
            self.attempts[number] = delivery.attempt
        await self.gate.wait()
        for number in numbers:
            if number in self.fails:
                raise self.fails[number]
        self.done += numbers


Listening = Callable[..., AbstractAsyncContextManager[None]]


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "MAX_DELAY_SECONDS", 0.2)


@pytest.fixture
async def streams(bus: Bus) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    await bus.ensure_stream(dlq_stream())


@pytest.fixture
def make_loop(bus: Bus, consumer: Consumer) -> Callable[..., PullLoop]:
    def make(**choices: Any) -> PullLoop:
        choices.setdefault("handler", consumer.handle)
        spec = Subscription(stream="ALPHA", consumer=CONSUMER, subjects=("alpha.v1.>",), **choices)
        letters = DeadLetters(bus=bus, service="sample", clock=CLOCK)
        return PullLoop(bus=bus, subscription=spec, dead_letters=letters, clock=CLOCK)

    return make


@pytest.fixture
def listening(make_loop: Callable[..., PullLoop]) -> Listening:
    """``async with listening():`` one replica's pull loop runs inside the block."""

    @asynccontextmanager
    async def run(**choices: Any) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(make_loop(**choices).run(stopping))
            try:
                yield
            finally:
                stopping.set()

    return run


async def publish(bus: Bus, *numbers: int, payload: bytes | None = None) -> None:
    await bus.publish(
        [
            OutMessage(
                "alpha.v1.sample",
                RunReported(run_id=str(number)).SerializeToString() if payload is None else payload,
                f"id-{number}",
                {"ce-type": "timeloom.scheduler.v1.RunReported", "traceparent": TRACE},
            )
            for number in numbers
        ]
    )


async def consumer_info(bus: Bus) -> ConsumerInfo:
    info: ConsumerInfo = await bus.client.jetstream().consumer_info("ALPHA", CONSUMER)
    return info


async def is_settled(bus: Bus) -> bool:
    """Nothing is left to deliver or to acknowledge."""
    info = await consumer_info(bus)
    return info.num_pending == 0 and info.num_ack_pending == 0


async def letters(bus: Bus) -> list[dict[str, str]]:
    """The headers of every dead letter."""
    state = await bus.stream_state(DLQ_STREAM)
    jetstream = bus.client.jetstream()
    return [
        dict((await jetstream.get_msg(DLQ_STREAM, number)).headers or {})
        for number in range(1, state.last_seq + 1)
    ]


async def test_everything_arrives_in_order_in_batches_and_is_acknowledged(
    bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    await publish(bus, *range(250))
    async with listening(max_batch=100):
        await eventually(lambda: len(consumer.done) == 250)
        await eventually(lambda: is_settled(bus))
        await publish(bus, 250)
        await eventually(lambda: consumer.done == list(range(251)))
    assert max(map(len, consumer.batches)) <= 100
    assert len(consumer.batches) < 50


async def test_a_message_brings_what_a_handler_needs_to_know(
    bus: Bus, streams: None, listening: Listening
) -> None:
    seen: list[Delivery] = []

    async def remember(batch: Sequence[Delivery]) -> None:
        seen.extend(batch)

    before = CLOCK.now_us()
    await publish(bus, 7)
    async with listening(handler=remember):
        await eventually(lambda: seen)
    (delivery,) = seen
    assert delivery.message_id == "id-7"
    assert delivery.subject == "alpha.v1.sample"
    assert delivery.type == "timeloom.scheduler.v1.RunReported"
    assert delivery.traceparent == TRACE
    assert (delivery.attempt, delivery.stream_seq) == (1, 1)
    assert before - 1_000_000 < delivery.stored_us < CLOCK.now_us() + 1_000_000


async def test_a_poison_message_gets_a_letter_and_its_neighbours_succeed(
    bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    consumer.fails[5] = Invalid.field("run_id", "is five")
    await publish(bus, *range(10))
    async with listening():
        await eventually(lambda: sorted(consumer.done) == [0, 1, 2, 3, 4, 6, 7, 8, 9])
        await eventually(lambda: is_settled(bus))
    (letter,) = await letters(bus)
    assert letter["Dlq-Cause"] == "permanent"
    assert letter["Dlq-Error"] == "Invalid: run_id: is five"
    assert letter["Dlq-Service"] == "sample"
    assert letter["Dlq-Consumer"] == CONSUMER
    assert letter["Dlq-Fingerprint"] == fingerprint(
        CONSUMER, "Invalid", "timeloom.scheduler.v1.RunReported"
    )
    assert letter["Orig-Stream"] == "ALPHA"
    assert letter["Orig-Subject"] == "alpha.v1.sample"
    assert letter["Orig-Seq"] == "6"
    assert letter["Orig-Msg-Id"] == "id-5"
    assert letter["Orig-Type"] == "timeloom.scheduler.v1.RunReported"
    assert letter["Replay-Count"] == "0"
    assert letter["traceparent"] == TRACE
    assert abs(int(letter["Dlq-Died-Us"]) - CLOCK.now_us()) < 60_000_000
    stored = await bus.client.jetstream().get_msg(DLQ_STREAM, 1)
    assert stored.subject == f"dlq.v1.sample.{CONSUMER}"
    assert stored.data is not None
    assert RunReported.FromString(stored.data).run_id == "5"


async def test_what_can_not_be_decoded_gets_a_letter_at_once(
    bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    await publish(bus, 1, payload=b"\xff\xff\xff")
    await publish(bus, 2)
    async with listening():
        await eventually(lambda: consumer.done == [2])
        await eventually(lambda: is_settled(bus))
    (letter,) = await letters(bus)
    assert letter["Dlq-Cause"] == "undecodable"
    assert letter["Dlq-Error"].startswith(DecodeError.__name__)
    assert letter["Dlq-Deliveries"] == "1"


async def test_a_bug_is_tried_a_few_times_and_then_gets_a_letter(
    bus: Bus,
    streams: None,
    consumer: Consumer,
    listening: Listening,
) -> None:
    consumer.fails[1] = ZeroDivisionError("one\ntoo many ö")
    await publish(bus, 1, 2)
    async with listening(max_attempts=2):
        await eventually(lambda: consumer.done == [2])
        await eventually(lambda: is_settled(bus), within=10)
    (letter,) = await letters(bus)
    assert letter["Dlq-Cause"] == "exhausted"
    assert letter["Dlq-Error"] == "ZeroDivisionError: one too many \\xf6"
    assert letter["Dlq-Deliveries"] == "2"


async def test_a_bug_that_passes_leaves_no_letter(
    bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    consumer.fails[1] = Conflict()
    await publish(bus, 1)
    async with listening():
        await eventually(lambda: consumer.attempts.get(1) == 1)
        consumer.fails.clear()
        await eventually(lambda: consumer.done == [1])
        await eventually(lambda: is_settled(bus))
    assert consumer.attempts[1] >= 2
    assert await letters(bus) == []


async def test_a_dependency_that_is_away_is_waited_for_without_letters(
    bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    away = Unavailable("The database did not answer.")
    consumer.fails = dict.fromkeys(range(20), away)
    await publish(bus, *range(20))
    async with listening(max_attempts=2):
        # Many more deliveries than a bug would get.
        await eventually(lambda: consumer.attempts.get(0, 0) > 4, within=15)
        consumer.fails.clear()
        await eventually(lambda: sorted(consumer.done) == list(range(20)), within=15)
        await eventually(lambda: is_settled(bus))
    assert await letters(bus) == []


async def test_patience_with_a_dependency_ends_too(
    bus: Bus,
    streams: None,
    consumer: Consumer,
    listening: Listening,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscription_module, "MAX_TRANSIENT_ATTEMPTS", 3)
    consumer.fails[1] = Unavailable("Never comes back.")
    await publish(bus, 1)
    async with listening(max_attempts=3):
        await eventually(lambda: has_letters(bus, 1), within=15)
    (letter,) = await letters(bus)
    assert (letter["Dlq-Cause"], letter["Dlq-Deliveries"]) == ("exhausted", "3")


async def has_letters(bus: Bus, count: int) -> bool:
    return (await bus.stream_state(DLQ_STREAM)).last_seq == count


async def test_without_a_place_for_letters_the_message_is_kept(
    bus: Bus, consumer: Consumer, listening: Listening
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    consumer.fails[1] = Invalid("Bad.")
    await publish(bus, 1)
    async with listening():
        await eventually(lambda: consumer.attempts.get(1, 0) >= 2, within=10)
        await bus.ensure_stream(dlq_stream())
        await eventually(lambda: has_letters(bus, 1), within=10)
        await eventually(lambda: is_settled(bus))
    assert consumer.done == []


async def test_a_slow_batch_is_not_delivered_to_anyone_else(
    bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    consumer.gate.clear()
    await publish(bus, 1)
    async with listening(ack_wait_seconds=0.3), listening(ack_wait_seconds=0.3):
        await eventually(lambda: consumer.batches)
        started = CLOCK.monotonic()
        await eventually(lambda: CLOCK.monotonic() - started > 1.5)
        consumer.gate.set()
        await eventually(lambda: consumer.done == [1])
        await eventually(lambda: is_settled(bus))
    assert consumer.batches == [[1]]


async def test_two_replicas_share_the_messages(
    bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    async with listening(max_batch=5), listening(max_batch=5):
        await publish(bus, *range(200))
        await eventually(lambda: len(consumer.done) == 200)
        await eventually(lambda: is_settled(bus))
    assert sorted(consumer.done) == list(range(200))


async def test_stopping_finishes_the_batch_in_hand_and_gives_the_rest_back_at_once(
    bus: Bus,
    streams: None,
    consumer: Consumer,
    make_loop: Callable[..., PullLoop],
    listening: Listening,
) -> None:
    consumer.gate.clear()
    loop, stopping = make_loop(max_batch=10), asyncio.Event()
    await publish(bus, *range(3))
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run(stopping))
        await eventually(lambda: consumer.batches)
        # The rest of what was asked for arrives while the batch is in hand.
        await publish(bus, *range(3, 30))
        await eventually(lambda: loop._received)
        stopping.set()
        consumer.gate.set()
    first = consumer.batches[0]
    assert consumer.done == first
    assert len(first) < 10
    # The ack wait is 30 s: a successor gets the rest without waiting for it.
    async with listening():
        await eventually(lambda: sorted(consumer.done) == list(range(30)), within=5)


async def test_a_stream_that_appears_later_is_waited_for(
    bus: Bus, consumer: Consumer, listening: Listening
) -> None:
    async with listening():
        await bus.ensure_stream(stream("ALPHA"))
        await publish(bus, 1)
        await eventually(lambda: consumer.done == [1])


async def test_a_consumer_that_was_deleted_is_made_again(
    bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    async with listening():
        await publish(bus, 1)
        await eventually(lambda: consumer.done == [1])
        await bus.client.jetstream().delete_consumer("ALPHA", CONSUMER)
        await publish(bus, 2)
        # A new consumer starts from the beginning; the inbox is what makes repeats harmless.
        await eventually(lambda: consumer.done == [1, 1, 2])


async def test_a_stream_that_was_deleted_is_listened_to_again_when_it_is_back(
    bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    async with listening():
        await publish(bus, 1)
        await eventually(lambda: consumer.done == [1])
        await bus.client.jetstream().delete_stream("ALPHA")
        await bus.ensure_stream(stream("ALPHA"))
        await publish(bus, 2)
        await eventually(lambda: consumer.done == [1, 2], within=10)


async def test_killing_nats_in_the_middle_loses_nothing(
    servers: Stores, bus: Bus, streams: None, consumer: Consumer, listening: Listening
) -> None:
    async with listening(max_batch=10):
        await publish(bus, *range(100))
        await eventually(lambda: len(consumer.done) > 10)
        generation = bus.generation
        pid = servers.kill("nats", SIGKILL)
        await asyncio.to_thread(servers.wait_replaced, "nats", pid)
        await eventually(lambda: bus.generation > generation and bus.is_connected, within=20)
        await publish(bus, *range(100, 150))
        await eventually(lambda: set(consumer.done) == set(range(150)), within=45)


async def test_the_age_of_what_is_in_hand_is_measured_while_it_fails(
    bus: Bus, streams: None, consumer: Consumer, make_loop: Callable[..., PullLoop]
) -> None:
    loop, stopping = make_loop(), asyncio.Event()
    consumer.fails[1] = Unavailable()
    await publish(bus, 1)
    stored_us = CLOCK.now_us()
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run(stopping))
        await eventually(lambda: consumer.attempts.get(1, 0) >= 2, within=10)
        assert abs(loop._oldest_us - stored_us) < 2_000_000
        consumer.fails.clear()
        await eventually(lambda: loop._oldest_us == 0, within=10)
        stopping.set()
