"""The live stream is made anew whenever it is gone, and hubs are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from chassis.errors import Unavailable
from services.realtime.domain.channels import ORG
from services.realtime.domain.live import LiveEvent, Outgoing, SessionRemoved
from services.realtime.publishers import live_stream, presence_stream
from tests.integration.realtime.conftest import (
    ACME,
    ANA,
    Hub,
    MakeReplica,
    NatsProcess,
    Replica,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


def outgoing(message_id: str) -> Outgoing:
    data = SessionRemoved(id="s", user_id=str(ANA), version=1)
    return Outgoing(LiveEvent(ACME, ORG, "session.removed", data), message_id, "")


@asynccontextmanager
async def watched(*replicas: Replica) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for one in replicas:
            group.create_task(one.streams.watch(stopping))
        try:
            yield
        finally:
            stopping.set()


async def says(replica: Replica, message_id: str) -> bool:
    try:
        await replica.live.publish([outgoing(message_id)])
    except Unavailable:
        return False
    return True


async def epoch(replica: Replica) -> str:
    return (await replica.history.read(ACME, ORG, None, 1)).position.epoch


async def test_replicas_that_start_together_agree_on_one_epoch_and_tell_it_once(
    hub: Hub, make_replica: MakeReplica
) -> None:
    replicas = [await make_replica() for _ in range(3)]
    (told,) = {await epoch(one) for one in replicas}
    await eventually(lambda: hub.on("ctl", "all"))
    assert hub.on("ctl", "all") == [("epoch.changed", {"epoch": told})]


async def test_a_publish_that_finds_no_stream_brings_it_back_and_hubs_are_told(
    hub: Hub, replica: Replica, admin: Client
) -> None:
    before = await epoch(replica)
    async with watched(replica):
        await admin.jetstream().delete_stream("LIVE")
        await eventually(lambda: says(replica, "m1"))
        await eventually(lambda: len(hub.on("ctl", "all")) == 2)
    after = await epoch(replica)
    assert after != before
    assert [data["epoch"] for _, data in hub.on("ctl", "all")] == [before, after]
    assert len(hub.on("org")) == 1


async def test_a_reader_that_finds_no_stream_brings_it_back(
    replica: Replica, admin: Client
) -> None:
    before = await epoch(replica)
    await admin.jetstream().delete_stream("LIVE")
    with pytest.raises(Unavailable):
        await epoch(replica)
    assert await epoch(replica) != before
    await admin.jetstream().delete_stream("LIVE")
    # Readiness asks for it too, and gets it.
    await replica.streams.check()


async def test_after_a_restart_of_nats_old_positions_are_void_and_hubs_hear_of_it(
    make_replica: MakeReplica, nats_process: NatsProcess
) -> None:
    replica = await make_replica(
        nats_url=nats_process.url, nats_user="", nats_password=SecretStr("")
    )
    client = await nats.connect(nats_process.url, reconnect_time_wait=0.1)
    hub = Hub()
    await client.subscribe("rt.v1.>", cb=hub.listen)
    await client.flush()
    assert await says(replica, "m1")
    since = (await replica.history.read(ACME, ORG, None, 1)).position
    async with watched(replica):
        nats_process.kill()
        await eventually(lambda: not replica.bus.is_connected)
        with pytest.raises(Unavailable):
            await replica.streams.check()
        nats_process.start()
        await eventually(lambda: says(replica, "m2"), within=20)
        page = await replica.history.read(ACME, ORG, since, 10)
        assert not page.is_recovered
        assert page.position.epoch != since.epoch
        await eventually(lambda: len(hub.on("org")) >= 1, within=10)
    await client.close()


async def test_both_streams_are_bounded_in_every_direction(replica: Replica, admin: Client) -> None:
    for declared in (live_stream(), presence_stream()):
        config = (await admin.jetstream().stream_info(str(declared.name))).config
        assert config.max_age == declared.max_age
        assert config.max_age
        assert config.max_bytes == declared.max_bytes
        assert (config.max_bytes or 0) > 0
        assert config.storage == declared.storage
        assert config.allow_atomic
        assert config.allow_direct
    live = (await admin.jetstream().stream_info("LIVE")).config
    assert live.max_msgs_per_subject == 1000
    assert live.storage == "memory"
    assert live.republish
    assert (live.republish.src, live.republish.dest) == ("live.v1.>", "rt.v1.>")


def test_in_a_cluster_the_live_stream_is_on_disk() -> None:
    assert live_stream(3).storage == "file"
    assert live_stream(3).num_replicas == 3
