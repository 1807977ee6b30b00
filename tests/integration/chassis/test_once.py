"""Deliver everything twice, lose acks, lose streams: each message takes effect once (promise P2)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from signal import SIGKILL
from typing import Any

import pytest
from nats.js.errors import NotFoundError

from chassis import inbox, relay
from chassis.bus import Bus
from chassis.clock import SystemClock
from chassis.deadletters import DeadLetters, dlq_stream
from chassis.errors import Unavailable
from chassis.outbox import Outbox
from chassis.postgres import Pool, transaction
from chassis.subscription import Delivery, PullLoop, Subscription
from protos.scheduler.v1.announcements_pb2 import RunReported
from tests.integration.chassis.conftest import MakeOutbox, Running
from tests.integration.chassis.streams import announce, numbers_in, stream
from tests.support.eventually import eventually
from tests.support.servers import Stores

CLOCK = SystemClock()
CONSUMER = "sample-alpha-all"


def delivery(message_id: str, sequence: int = 1) -> Delivery:
    return Delivery(
        message_id=message_id,
        subject="alpha.v1.sample",
        data=b"",
        type="",
        traceparent="",
        attempt=1,
        stream_seq=sequence,
        reply="",
        headers={},
    )


class Ledger:
    """Adds up what it hears, and announces each number on: an effect that shows every repeat."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.fails_once_after_commit = False

    async def handle(self, batch: Sequence[Delivery]) -> None:
        async with self._outbox.begin() as tx:
            for one in await inbox.claim(tx.conn, CONSUMER, batch):
                report = RunReported.FromString(one.data)
                await tx.conn.execute("INSERT INTO ledger VALUES ($1)", int(report.run_id))
                tx.announce("BETA", "beta.v1.sample", report)
        if self.fails_once_after_commit:
            self.fails_once_after_commit = False
            raise ConnectionError("the ack is lost")


@pytest.fixture
async def ledger(make_outbox: MakeOutbox, bus: Bus, conn: Any) -> Ledger:
    await conn.execute("CREATE TABLE ledger (number int)")
    for config in (stream("ALPHA"), stream("BETA"), dlq_stream()):
        await bus.ensure_stream(config)
    return Ledger(make_outbox("ALPHA", "BETA"))


@pytest.fixture
def listening(bus: Bus, ledger: Ledger) -> Callable[[], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def run() -> AsyncIterator[None]:
        spec = Subscription(
            stream="ALPHA", consumer=CONSUMER, subjects=("alpha.v1.>",), handler=ledger.handle
        )
        letters = DeadLetters(bus=bus, service="sample", clock=CLOCK)
        loop = PullLoop(bus=bus, subscription=spec, dead_letters=letters, clock=CLOCK)
        stopping = asyncio.Event()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(loop.run(stopping))
            try:
                yield
            finally:
                stopping.set()

    return run


async def counted(conn: Any) -> list[int]:
    return [row["number"] for row in await conn.fetch("SELECT number FROM ledger ORDER BY number")]


async def has(conn: Any, numbers: range) -> bool:
    assert await counted(conn) == list(numbers)
    return True


async def test_a_message_is_claimed_once_in_the_order_given(conn: Any) -> None:
    batch = [delivery(f"id-{n}") for n in (3, 1, 2)]
    async with conn.transaction():
        assert await inbox.claim(conn, CONSUMER, batch) == batch
    async with conn.transaction():
        later = [delivery("id-2"), delivery("id-4"), delivery("id-3")]
        assert await inbox.claim(conn, CONSUMER, later) == [later[1]]
        assert await inbox.claim(conn, CONSUMER, []) == []


async def test_the_same_id_twice_in_one_batch_counts_once(conn: Any) -> None:
    batch = [delivery("id-1", 1), delivery("id-2", 2), delivery("id-1", 3)]
    assert await inbox.claim(conn, CONSUMER, batch) == batch[:2]


async def test_consumers_do_not_share_what_they_claimed(conn: Any) -> None:
    batch = [delivery("id-1")]
    assert await inbox.claim(conn, "one", batch) == batch
    assert await inbox.claim(conn, "other", batch) == batch


async def test_a_claim_that_is_rolled_back_was_never_made(conn: Any) -> None:
    transaction = conn.transaction()
    await transaction.start()
    await inbox.claim(conn, CONSUMER, [delivery("id-1")])
    assert await inbox.is_known(conn, CONSUMER, delivery("id-1"))
    await transaction.rollback()
    assert not await inbox.is_known(conn, CONSUMER, delivery("id-1"))


async def test_old_ids_are_forgotten_and_young_ones_kept(conn: Any) -> None:
    await inbox.claim(conn, CONSUMER, [delivery("old"), delivery("young")])
    await conn.execute(
        "UPDATE inbox SET processed_at = now() - interval '8 days' WHERE message_id = 'old'"
    )
    assert await inbox.forget(conn, days=7) == 1
    assert not await inbox.is_known(conn, CONSUMER, delivery("old"))
    assert await inbox.is_known(conn, CONSUMER, delivery("young"))


async def test_two_replicas_that_claim_the_same_messages_at_once_share_them(
    make_outbox: MakeOutbox,
) -> None:
    replicas = [make_outbox("ALPHA") for _ in range(4)]
    ids = [f"id-{n}" for n in range(200)]
    claimed: list[str] = []

    async def claim(outbox: Outbox, order: list[str]) -> None:
        async with outbox.begin() as tx:
            fresh = await inbox.claim(tx.conn, CONSUMER, [delivery(one) for one in order])
        claimed.extend(one.message_id for one in fresh)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for turn, outbox in enumerate(replicas):
            group.create_task(claim(outbox, ids if turn % 2 else ids[::-1]))
    assert sorted(claimed) == sorted(ids)


async def test_claims_are_made_in_one_order_so_that_replicas_never_wait_in_a_circle(
    pool: Pool, conn: Any
) -> None:
    async with asyncio.TaskGroup() as group, transaction(pool) as first:
        await inbox.claim(first, CONSUMER, [delivery("m")])
        second = group.create_task(claim_alone(pool, ["z", "a", "m"]))
        await eventually(lambda: conn.fetchval(IS_WAITING))
        # Had the other one taken z before it came to wait for m, both would wait now.
        assert await inbox.claim(first, CONSUMER, [delivery("z")])
    assert [one.message_id for one in second.result()] == ["a"]


IS_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


async def claim_alone(pool: Pool, ids: list[str]) -> list[Delivery]:
    async with transaction(pool) as conn:
        return await inbox.claim(conn, CONSUMER, [delivery(one) for one in ids])


async def test_delivering_everything_twice_has_one_effect(
    bus: Bus, ledger: Ledger, listening: Any, running: Running, conn: Any
) -> None:
    async with running(ledger._outbox):
        await announce(ledger._outbox, "ALPHA", *range(300))
        async with listening():
            await eventually(lambda: has(conn, range(300)))
        # A new consumer of the same name starts from the beginning.
        await bus.client.jetstream().delete_consumer("ALPHA", CONSUMER)
        async with listening():
            await eventually(lambda: all_acknowledged(bus, 300))
    assert await counted(conn) == list(range(300))
    assert sorted(await numbers_in(bus, "BETA")) == list(range(300))


async def all_acknowledged(bus: Bus, last_seq: int) -> bool:
    try:
        info = await bus.client.jetstream().consumer_info("ALPHA", CONSUMER)
    except NotFoundError:
        return False
    return info.ack_floor is not None and info.ack_floor.stream_seq == last_seq


async def test_an_ack_that_is_lost_after_the_commit_has_one_effect(
    bus: Bus, ledger: Ledger, listening: Any, running: Running, conn: Any
) -> None:
    ledger.fails_once_after_commit = True
    async with running(ledger._outbox), listening():
        await announce(ledger._outbox, "ALPHA", *range(20))
        await eventually(lambda: all_acknowledged(bus, 20), within=15)
    assert await counted(conn) == list(range(20))
    assert sorted(await numbers_in(bus, "BETA")) == list(range(20))


async def test_a_stream_that_is_lost_and_refilled_has_one_effect(
    bus: Bus,
    ledger: Ledger,
    listening: Any,
    running: Running,
    conn: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "LOOK_SECONDS", 0.1)
    async with running(ledger._outbox), listening():
        await announce(ledger._outbox, "ALPHA", *range(100))
        await eventually(lambda: has(conn, range(100)))
        await bus.client.jetstream().delete_stream("ALPHA")
        await bus.ensure_stream(stream("ALPHA"))
        await announce(ledger._outbox, "ALPHA", *range(100, 120))
        await eventually(lambda: has(conn, range(120)), within=15)
        await eventually(lambda: refilled(bus, 120), within=15)
    assert await counted(conn) == list(range(120))


async def refilled(bus: Bus, count: int) -> bool:
    return sorted(await numbers_in(bus, "ALPHA")) == list(range(count)) and await all_acknowledged(
        bus, (await bus.stream_state("ALPHA")).last_seq
    )


async def test_killing_nats_and_postgres_while_messages_flow_has_one_effect_each(
    servers: Stores, bus: Bus, ledger: Ledger, listening: Any, running: Running, conn: Any, dsn: str
) -> None:
    async with running(ledger._outbox), listening():
        await announce(ledger._outbox, "ALPHA", *range(200))
        for store in ("nats", "postgres"):
            pid = servers.kill(store, SIGKILL)
            await asyncio.to_thread(servers.wait_replaced, store, pid)
        await eventually(lambda: complete(ledger._outbox, 200), within=45)
    assert await complete(ledger._outbox, 200)


async def complete(outbox: Outbox, count: int) -> bool:
    """Whether the ledger holds each number once; false while the database is away."""
    try:
        async with outbox.begin() as tx:
            return await counted(tx.conn) == list(range(count))
    except Unavailable:
        return False
