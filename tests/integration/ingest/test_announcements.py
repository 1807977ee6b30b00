"""What is stored is announced, all of it and once, whatever happens in between."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from pydantic import SecretStr

from chassis import bus as buses
from chassis.bus import Bus, partition_of
from chassis.clock import SystemClock
from chassis.errors import NotFound
from chassis.settings import ServiceSettings
from protos.ingest.v1.announcements_pb2 import ActivityRecorded
from services.ingest.domain.columns import REMOVED
from services.ingest.publishers import ACTIVITY_STREAM, declare_streams
from tests.integration.ingest.conftest import (
    ACME,
    ANA,
    BEN,
    LAPTOP,
    PHONE,
    RIVAL,
    MakeReplica,
    Replica,
    event,
    some_id,
)
from tests.support.eventually import eventually
from tests.support.servers import Stores

Heard = dict[tuple[UUID, UUID, bytes, int], tuple[int, int, int, str, str, str]]


def fold(messages: list[ActivityRecorded]) -> Heard:
    """What a consumer that heard everything believes is stored."""
    heard: Heard = {}
    for message in messages:
        for activity in message.activity:
            events = activity.events
            revisions = events.revision or [0] * len(events.start_us)
            apps = events.app or [""] * len(events.start_us)
            titles = events.title or [""] * len(events.start_us)
            for place, event_id in enumerate(events.event_id):
                start = events.start_us[place]
                key = (UUID(message.org_id), UUID(activity.device_id), event_id, start)
                row = (
                    revisions[place],
                    start + events.duration_us[place],
                    events.flags[place],
                    activity.source,
                    apps[place],
                    titles[place],
                )
                if key not in heard or row[:2] > heard[key][:2]:
                    heard[key] = row
    return heard


async def stored(replica: Replica) -> Heard:
    """What is stored, tombstones included."""
    rows = await replica.fetch(
        """SELECT org_id, device_id, event_id, to_us(start_at) AS start_us, revision,
                  to_us(end_at) AS end_us, flags, removed_at IS NOT NULL AS is_removed, source,
                  app, title
           FROM events"""
    )
    return {
        (row["org_id"], row["device_id"], row["event_id"].bytes, row["start_us"]): (
            row["revision"],
            row["end_us"],
            row["flags"] | (REMOVED if row["is_removed"] else 0),
            row["source"],
            row["app"],
            row["title"],
        )
        for row in rows
    }


async def test_whoever_heard_everything_knows_exactly_what_is_stored(replica: Replica):
    dice = random.Random(7)
    agents = [replica.agent(ANA), replica.agent(BEN), replica.agent(ANA, RIVAL)]
    names = [some_id() for _ in range(6)]

    async def act() -> None:
        agent = dice.choice(agents)
        device, source = dice.choice([LAPTOP, PHONE]), dice.choice(["a", "b"])
        some = [
            event(dice.randrange(20), dice.randrange(9), title=dice.choice("xyz"))
            for _ in range(dice.randrange(1, 8))
        ]
        match dice.randrange(6):
            case 0 | 1:
                await agent.sent(*some, device=device, source=source)
            case 2:
                ids = [dice.choice(["", *names]) for _ in some]
                await agent.sent(*some, ids=ids, device=device, source=source)
            case 3:
                await agent.beat(dice.randrange(60), dice.randrange(5), device=device, source="a")
            case 4 if known := await agent.events():
                await agent.delete(dice.choice(known).event_id)
            case 5 if known := await agent.events(device_id=str(LAPTOP), source="a"):
                # Somebody beside us may have removed it meanwhile.
                with contextlib.suppress(NotFound):
                    await agent.replace(dice.choice(known).event_id, some[0], source="a")

    for _ in range(40):
        async with asyncio.TaskGroup() as group:
            for _ in range(dice.randrange(1, 5)):
                group.create_task(act())
        assert fold(await replica.announced()) == await stored(replica)
    for agent in agents:
        assert {row.event_id for row in await agent.events()}


async def test_a_group_of_many_people_is_one_message_for_each_partition(replica: Replica):
    people = [UUID(int=number) for number in range(1, 33)]
    async with asyncio.TaskGroup() as group:
        for number, person in enumerate(people):
            group.create_task(replica.agent(person).sent(event(number)))
    rows = await replica.fetch("SELECT subject, payload FROM outbox ORDER BY id")
    told: list[str] = []
    for row in rows:
        message = ActivityRecorded.FromString(row["payload"])
        for activity in message.activity:
            partition = partition_of(UUID(activity.user_id))
            assert row["subject"] == f"activity.v1.{partition}.{ACME}"
            told.append(activity.user_id)
    assert sorted(told) == sorted(map(str, people))
    # Everyone in two groups at most: the first one starts at once.
    assert len(rows) <= 17


@pytest.fixture
async def bus(servers: Stores, nats_url: str) -> AsyncIterator[Bus]:
    """Connected as ingest, its stream declared."""
    settings = ServiceSettings(
        nats_url=nats_url,
        nats_user="ingest",
        nats_password=SecretStr(servers.nats("ingest")["password"]),
    )
    async with buses.connect(settings, service="ingest") as connected:
        await declare_streams(connected, replicas=1)
        yield connected


@asynccontextmanager
async def relaying(replica: Replica) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(replica.outbox.run(stopping))
        yield
        stopping.set()


async def on_the_stream(servers: Stores, count: int) -> list[tuple[str, ActivityRecorded]]:
    """Every message of ACTIVITY, once there are at least `count`."""
    client = await nats.connect(**servers.nats())
    try:
        jetstream = client.jetstream()

        async def are_there() -> bool:
            return (await jetstream.stream_info(ACTIVITY_STREAM)).state.messages >= count

        await eventually(are_there, within=15)
        subscription = await jetstream.pull_subscribe(
            "activity.v1.>", config=ConsumerConfig(ack_policy=AckPolicy.NONE)
        )
        total = (await jetstream.stream_info(ACTIVITY_STREAM)).state.messages
        found = await subscription.fetch(total, timeout=5)
        return [(one.subject, ActivityRecorded.FromString(one.data)) for one in found]
    finally:
        await client.close()


async def test_the_relay_publishes_everything_once_and_in_order(
    make_replica: MakeReplica, servers: Stores, bus: Bus
):
    replica = await make_replica(at=SystemClock(), bus=bus)
    agent = replica.agent()
    async with relaying(replica):
        for number in range(30):
            await agent.sent(event(number), event(1000 + number))
        published = await on_the_stream(servers, 30)
    assert [message for _, message in published] == await replica.announced()
    assert {subject for subject, _ in published} == {f"activity.v1.{partition_of(ANA)}.{ACME}"}


async def test_what_was_committed_before_a_kill_is_published_by_whoever_comes_next(
    make_replica: MakeReplica, servers: Stores, bus: Bus
):
    killed = await make_replica(at=SystemClock(), bus=bus)
    for number in range(10):
        await killed.agent().sent(event(number))
    successor = await make_replica(at=SystemClock(), bus=bus)
    async with relaying(successor):
        await successor.agent().sent(event(500))
        published = await on_the_stream(servers, 11)
    assert len(published) == 11
    assert fold([message for _, message in published]) == await stored(successor)


async def test_nothing_is_announced_of_a_transaction_that_failed(replica: Replica):
    agent = replica.agent()
    await agent.sent(event(-100))
    await replica.fetch("ALTER TABLE outbox ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    with pytest.raises(Exception, match="full_up"):
        await agent.sent(event(0))
    assert await agent.count() == 1
    await replica.fetch("ALTER TABLE outbox DROP CONSTRAINT full_up")
    assert await agent.sent(event(0)) == (1, 0)
    assert fold(await replica.announced()) == await stored(replica)
