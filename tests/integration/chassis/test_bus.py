"""Publishing to a real JetStream: all or nothing, once, and never silently."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGSTOP

import pytest
from nats.js.api import DiscardPolicy

from chassis.bus import Bus, OutMessage, check_subject
from chassis.errors import Unavailable
from protos.scheduler.v1.announcements_pb2 import RunReported
from tests.integration.chassis.conftest import ConnectBus
from tests.integration.chassis.streams import numbers_in, stream
from tests.support.eventually import eventually
from tests.support.servers import Stores


def messages(numbers: range | list[int]) -> list[OutMessage]:
    return [
        OutMessage(
            subject="alpha.v1.sample",
            payload=RunReported(run_id=str(number)).SerializeToString(),
            message_id=f"id-{number}",
            headers={"ce-type": "sample"},
        )
        for number in numbers
    ]


async def test_a_batch_is_stored_in_order_and_acknowledged_at_its_end(bus: Bus) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    ack = await bus.publish(messages(range(300)))
    assert ack.stream == "ALPHA"
    assert ack.last_seq == 300
    assert await numbers_in(bus, "ALPHA") == list(range(300))


async def test_more_than_a_thousand_go_as_several_batches_in_order(bus: Bus) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    ack = await bus.publish(messages(range(2500)))
    assert ack.last_seq == 2500
    assert await numbers_in(bus, "ALPHA") == list(range(2500))


async def test_a_message_alone_is_stored_once_however_often_it_is_published(bus: Bus) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    for _ in range(3):
        assert (await bus.publish(messages([7]))).last_seq == 1
    assert await numbers_in(bus, "ALPHA") == [7]


async def test_a_batch_that_was_stored_in_part_is_completed(bus: Bus) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    await bus.publish(messages(range(40)))
    await bus.publish(messages(range(100)))
    assert await numbers_in(bus, "ALPHA") == list(range(100))


async def test_headers_arrive_with_the_identity(bus: Bus) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    await bus.publish(messages([1, 2]))
    stored = await bus.client.jetstream().get_msg("ALPHA", 2)
    assert stored.headers is not None
    assert stored.headers["Nats-Msg-Id"] == "id-2"
    assert stored.headers["ce-type"] == "sample"


@pytest.mark.parametrize("count", [1, 2])
async def test_without_a_stream_nothing_is_claimed(bus: Bus, count: int) -> None:
    with pytest.raises(Unavailable):
        await bus.publish(messages(range(count)))
    with pytest.raises(Unavailable, match="not found"):
        await bus.stream_state("ALPHA")


async def test_a_stream_that_refuses_is_unavailable_and_stores_nothing(bus: Bus) -> None:
    full = stream("ALPHA")
    full.max_msgs = 2
    full.discard = DiscardPolicy.NEW
    await bus.ensure_stream(full)
    await bus.publish(messages([1, 2]))
    with pytest.raises(Unavailable, match="refused"):
        await bus.publish(messages([3]))
    with pytest.raises(Unavailable, match="refused"):
        await bus.publish(messages([4, 5]))
    assert await numbers_in(bus, "ALPHA") == [1, 2]


async def test_declaring_a_stream_again_brings_it_to_the_new_configuration(bus: Bus) -> None:
    config = stream("ALPHA")
    await bus.ensure_stream(config)
    await bus.publish(messages([1]))
    before = await bus.stream_state("ALPHA")
    config.max_age = 7200
    await bus.ensure_stream(config)
    info = await bus.client.jetstream().stream_info("ALPHA")
    assert info.config.max_age == 7200
    assert await bus.stream_state("ALPHA") == before


async def test_a_stream_of_ours_that_was_deleted_comes_back(bus: Bus) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    await bus.publish(messages([1]))
    before = await bus.stream_state("ALPHA")
    await bus.client.jetstream().delete_stream("ALPHA")
    after = await bus.stream_state("ALPHA")
    assert after.last_seq == 0
    assert after.created != before.created
    await bus.client.jetstream().delete_stream("ALPHA")
    with pytest.raises(Unavailable):
        await bus.publish(messages([2]))
    assert await numbers_in(bus, "ALPHA") == []
    assert (await bus.publish(messages([2]))).last_seq == 1


async def test_streams_that_a_restart_loses_are_declared_again(
    servers: Stores, bus: Bus, connect_bus: ConnectBus
) -> None:
    await bus.ensure_stream(stream("ALPHA", in_memory=True))
    await bus.publish(messages([1]))
    stranger = await connect_bus()
    pid = servers.kill("nats", SIGKILL)
    await asyncio.to_thread(servers.wait_replaced, "nats", pid)

    async def is_there_again() -> bool:
        """Asked by somebody who can't declare it."""
        try:
            return (await stranger.stream_state("ALPHA")).last_seq == 0
        except Unavailable:
            return False

    await eventually(is_there_again, within=20)


async def test_an_open_question_ends_when_the_connection_does(servers: Stores, bus: Bus) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    pid = servers.kill("nats", SIGSTOP)
    await eventually(lambda: is_stopped(pid))
    try:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(bus_fails(bus))
            await eventually(lambda: bus._asking)
            started = time.monotonic()
            os.kill(pid, SIGKILL)
            await asking
        # Far below the 8 s that an answer may take.
        assert time.monotonic() - started < 4.0
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)
        servers.wait_replaced("nats", pid)


async def test_while_the_bus_is_away_nothing_is_kept_for_later(servers: Stores, bus: Bus) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    pid = servers.kill("nats", SIGKILL)
    await eventually(lambda: not bus.is_connected)
    for count in (1, 5):
        with pytest.raises(Unavailable, match="away"):
            await bus.publish(messages(range(count)))
    servers.wait_replaced("nats", pid)
    await eventually(lambda: bus.is_connected, within=20)
    assert await numbers_in(bus, "ALPHA") == []


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def bus_fails(bus: Bus) -> None:
    with pytest.raises(Unavailable):
        await bus.publish(messages([1]))


@pytest.mark.parametrize("subject", ["alpha.v1.x", "dlq.v1.sessions.sessions-activity-3", "a"])
def test_a_plain_subject_is_fine(subject: str) -> None:
    check_subject(subject)


@pytest.mark.parametrize(
    "subject", ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", "a\tb", "a\r\nPUB x", "a.b>"]
)
def test_a_subject_that_could_match_or_inject_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="not a subject"):
        check_subject(subject)
