"""NATS is transport: what it loses comes back from the outbox (promises P1 and P9)."""

import asyncio
from functools import partial
from signal import SIGKILL
from typing import Any

import pytest

from chassis import relay
from chassis.bus import Bus
from chassis.errors import Unavailable
from tests.integration.chassis.conftest import MakeOutbox, Running
from tests.integration.chassis.streams import announce, numbers_in, stream
from tests.support.eventually import eventually
from tests.support.servers import Stores


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "LOOK_SECONDS", 0.1)


async def position(conn: Any) -> tuple[str, int]:
    row = await conn.fetchrow(
        "SELECT created, last_seq FROM outbox_positions WHERE stream = 'ALPHA'"
    )
    return row["created"], row["last_seq"]


async def test_a_stream_that_was_deleted_and_made_again_is_refilled(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    async with running(outbox):
        await announce(outbox, "ALPHA", *range(1200))
        await eventually(lambda: same(bus, range(1200)))
        await bus.client.jetstream().delete_stream("ALPHA")
        await bus.ensure_stream(stream("ALPHA"))
        await eventually(lambda: same(bus, range(1200)))
        await announce(outbox, "ALPHA", 1200)
        await eventually(lambda: same(bus, range(1201)))
    state = await bus.stream_state("ALPHA")
    assert await position(conn) == (state.created, 1201)


async def test_a_stream_that_was_lost_while_the_service_was_down_is_refilled_at_its_start(
    bus: Bus, make_outbox: MakeOutbox, running: Running
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    first = make_outbox("ALPHA")
    async with running(first):
        await announce(first, "ALPHA", *range(10))
    await bus.client.jetstream().delete_stream("ALPHA")
    await bus.ensure_stream(stream("ALPHA"))
    async with running(make_outbox("ALPHA")):
        await eventually(lambda: same(bus, range(10)))


async def test_a_stream_that_lost_its_end_is_refilled(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    async with running(outbox):
        await announce(outbox, "ALPHA", 1, 2, 3)
        await eventually(lambda: same(bus, [1, 2, 3]))
    # As if the last ones had been acknowledged and then lost with the power.
    await conn.execute("UPDATE outbox_positions SET last_seq = 10")
    async with running(make_outbox("ALPHA")):
        await eventually(lambda: is_at(conn, 3))
    # Still within the dedupe window, so each is there once.
    assert await numbers_in(bus, "ALPHA") == [1, 2, 3]


async def test_an_undisturbed_stream_is_never_taken_for_rewound(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any, caplog: Any
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    replicas = [make_outbox("ALPHA") for _ in range(3)]
    requeued = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
    async with running(replicas[0]), running(replicas[1]), running(replicas[2]):
        # Three replicas publish while all of them look all the time.
        async with asyncio.TaskGroup() as group:
            for replica in replicas:
                group.create_task(announce_many(replica, 100))
        await eventually(lambda: none_waits(conn, requeued))
    state = await bus.stream_state("ALPHA")
    assert state.last_seq == 300
    assert await position(conn) == (state.created, 300)


async def announce_many(outbox: Any, count: int) -> None:
    for number in range(count):
        await announce(outbox, "ALPHA", number)


async def none_waits(conn: Any, query: str) -> bool:
    waiting: int = await conn.fetchval(query)
    return waiting == 0


async def is_at(conn: Any, last_seq: int) -> bool:
    return (await position(conn))[1] == last_seq


async def same(bus: Bus, numbers: range | list[int]) -> bool:
    assert await numbers_in(bus, "ALPHA") == list(numbers)
    return True


async def test_killing_nats_in_the_middle_loses_nothing(
    servers: Stores, bus: Bus, make_outbox: MakeOutbox, running: Running
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    said = 0
    async with running(outbox):
        for _ in range(2):
            generation = bus.generation
            for number in range(said, said + 50):
                await announce(outbox, "ALPHA", number)
            pid = servers.kill("nats", SIGKILL)
            # The database goes on taking what the bus can't have yet.
            for number in range(said + 50, said + 100):
                await announce(outbox, "ALPHA", number)
            said += 100
            await asyncio.to_thread(servers.wait_replaced, "nats", pid)
            await eventually(partial(is_past, bus, generation), within=20)
        await eventually(lambda: all_there(bus, said), within=20)
    # Each once, by its id, and in the order it was said.
    assert await numbers_in(bus, "ALPHA") == list(range(said))


def is_past(bus: Bus, generation: int) -> bool:
    return bus.generation > generation


async def all_there(bus: Bus, count: int) -> bool:
    return len(set(await numbers_in(bus, "ALPHA"))) == count


async def test_a_database_that_restarts_in_the_middle_loses_nothing(
    servers: Stores, bus: Bus, make_outbox: MakeOutbox, running: Running
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    async with running(outbox):
        await announce(outbox, "ALPHA", *range(100))
        pid = servers.kill("postgres")
        await asyncio.to_thread(servers.wait_replaced, "postgres", pid)
        await eventually(lambda: announced(outbox, 100), within=20)
        await eventually(lambda: all_there(bus, 101), within=20)


async def announced(outbox: Any, number: int) -> bool:
    """Whether the database took it; when the answer was lost it may be there all the same."""
    try:
        await announce(outbox, "ALPHA", number)
    except Unavailable:
        return False
    return True
