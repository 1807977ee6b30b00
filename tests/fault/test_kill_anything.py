"""Promises P1, P2, P3 and P9 under fire: kill -9 of every process while events flow."""

import asyncio
import random
from signal import SIGKILL, SIGTERM, Signals
from uuid import UUID, uuid4

import httpx
import nats
import pytest
from redis.asyncio import Redis

from tests.support.books import (
    assert_books_balance,
    kept_by_ingest,
    known_to_sessions,
    wait_until_sessions_know_all,
)
from tests.support.eventually import eventually
from tests.support.people import Person, event
from tests.support.servers import Suite

pytestmark = [pytest.mark.fault, pytest.mark.timeout(240)]

APPS = ("Code", "Firefox", "Slack", "Ghostty")


class Agent:
    """Keeps sending; an upload that fails is sent again as it was, as real agents do."""

    def __init__(self, person: Person, seed: int) -> None:
        self._person = person
        self._chance = random.Random(seed)
        self.acked: set[UUID] = set()
        self.retries = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._deliver(self._batch())

    def _batch(self) -> list[dict[str, object]]:
        return [
            event(
                self._chance.randrange(0, 80_000),
                self._chance.choice([5, 30, 300]),
                id=str(uuid4()),
                app=self._chance.choice(APPS),
                idle=self._chance.choice([False, False, True]),
            )
            for _ in range(self._chance.randint(1, 20))
        ]

    async def _deliver(self, events: list[dict[str, object]]) -> None:
        body = {"device_id": "laptop", "source": "agent", "events": events}
        while True:
            try:
                reply = await self._person.client.post("/v1/events", json=body, timeout=10)
            except httpx.HTTPError:
                reply = None
            if reply is not None and reply.status_code == 200:
                answer = reply.json()
                assert answer["accepted"] + answer["duplicates"] == len(events), answer
                self.acked.update(UUID(str(one["id"])) for one in events)
                return
            # While something is down the answer is a failure, never a lie.
            assert reply is None or reply.status_code in {429, 503}, reply.text
            self.retries += 1

    async def progress(self, events: int = 60) -> None:
        """Returns when that many more events were acked."""
        goal = len(self.acked) + events
        await eventually(lambda: len(self.acked) >= goal, within=60)


async def under_fire(suite: Suite, person: Person, attack: "list[tuple[str, Signals]]") -> Agent:
    """Sends while processes are ended one after the other; returns when all are back."""
    agent = Agent(person, seed=len(attack))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(agent.run(stop))
        for name, signal in attack:
            await agent.progress()
            old = suite.kill(name, signal)
            await asyncio.to_thread(suite.wait_replaced, name, old, within=60)
        await agent.progress()
        stop.set()
        await sending
    return agent


async def assert_nothing_lost(suite: Suite, person: Person, agent: Agent) -> None:
    """What was acked is kept once, and sessions made of it what one recomputation makes."""
    kept = await kept_by_ingest(suite, person.org_id)
    assert agent.acked, "the agent got nothing through"
    assert {event_id for _, event_id in kept} >= agent.acked
    await wait_until_sessions_know_all(suite, person.org_id)
    await assert_books_balance(suite, person.org_id, person.id)


@pytest.mark.parametrize(
    "victims",
    [
        ("ingest", "sessions", "gateway"),
        ("scheduler", "realtime", "valkey"),
        ("nats", "postgres"),
    ],
)
async def test_kill_9_loses_and_doubles_nothing(suite: Suite, victims: tuple[str, ...]) -> None:
    person = await Person.register(suite.url)
    agent = await under_fire(suite, person, [(name, SIGKILL) for name in victims])
    await assert_nothing_lost(suite, person, agent)
    await person.close()


async def test_sigterm_under_load_loses_nothing(suite: Suite) -> None:
    person = await Person.register(suite.url)
    names = ("gateway", "ingest", "sessions", "realtime", "scheduler")
    agent = await under_fire(suite, person, [(name, SIGTERM) for name in names])
    await assert_nothing_lost(suite, person, agent)
    await person.close()


async def test_losing_every_stream_and_all_of_valkey_loses_no_data(suite: Suite) -> None:
    person = await Person.register(suite.url)
    agent = Agent(person, seed=9)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(agent.run(stop))
        await agent.progress()
        client = await nats.connect(**suite.nats())
        for stream in await client.jetstream().streams_info():
            await client.jetstream().delete_stream(str(stream.config.name))
        await client.close()
        valkey = Redis.from_url(suite.valkey_url)
        await valkey.flushall()
        await valkey.aclose()
        await agent.progress()
        stop.set()
        await sending
    await assert_nothing_lost(suite, person, agent)
    await person.close()


async def test_delivering_everything_twice_changes_nothing(suite: Suite) -> None:
    person = await Person.register(suite.url)
    await person.send([event(5 * n, id=str(uuid4())) for n in range(300)])
    await wait_until_sessions_know_all(suite, person.org_id)
    before = await assert_books_balance(suite, person.org_id, person.id)
    client = await nats.connect(**suite.nats())
    jetstream = client.jetstream()
    for stream in ("ACTIVITY", "SESSIONS", "ACCOUNTS", "REPORTS", "JOBS"):
        for consumer in await jetstream.consumers_info(stream):
            # Its successor starts from the first message again.
            await jetstream.delete_consumer(stream, consumer.name)

    async def all_delivered_again() -> bool:
        consumers = await jetstream.consumers_info("ACTIVITY")
        assert len(consumers) == 16
        return not any(one.num_pending or one.num_ack_pending for one in consumers)

    await eventually(all_delivered_again, within=60, every=0.25)
    await client.close()
    assert await assert_books_balance(suite, person.org_id, person.id) == before
    assert await known_to_sessions(suite, person.org_id) == await kept_by_ingest(
        suite, person.org_id
    )
    await person.close()
