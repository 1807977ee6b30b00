"""Streams to try things on: numbers go in as announcements and are read back in order."""

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

from chassis.bus import Bus
from chassis.outbox import Outbox
from protos.scheduler.v1.announcements_pb2 import RunReported


def stream(name: str, *, in_memory: bool = False) -> StreamConfig:
    """A stream as services declare theirs; ALPHA takes alpha.v1.>."""
    return StreamConfig(
        name=name,
        subjects=[f"{name.lower()}.v1.>"],
        storage=StorageType.MEMORY if in_memory else StorageType.FILE,
        duplicate_window=120,
        max_age=3600,
        allow_atomic=True,
        allow_direct=True,
    )


async def announce(outbox: Outbox, stream_name: str, *numbers: int) -> None:
    """One transaction that announces each number."""
    async with outbox.begin() as tx:
        for number in numbers:
            message = RunReported(run_id=str(number))
            tx.announce(stream_name, f"{stream_name.lower()}.v1.sample", message)


async def numbers_in(bus: Bus, stream_name: str) -> list[int]:
    """The numbers of every message of a stream, in stream order."""
    state = await bus.stream_state(stream_name)
    jetstream = bus.client.jetstream(timeout=5.0)
    consumer = await jetstream.add_consumer(
        stream_name,
        ConsumerConfig(
            deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, inactive_threshold=30.0
        ),
    )
    subscription = await jetstream.pull_subscribe_bind(consumer.name, stream=stream_name)
    numbers: list[int] = []
    waiting = (await jetstream.consumer_info(stream_name, consumer.name)).num_pending or 0
    while len(numbers) < waiting:
        batch = await subscription.fetch(min(500, waiting - len(numbers)), timeout=5.0)
        numbers += [int(RunReported.FromString(message.data).run_id) for message in batch]
    await subscription.unsubscribe()
    assert state.last_seq >= len(numbers)
    return numbers
