"""Who is here: leases, leaving, several replicas, and a store that is lost."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from nats.aio.client import Client
from redis.asyncio import Redis

from chassis.errors import Unavailable
from chassis.ids import new_id
from protos.realtime.v1.announcements_pb2 import PresenceChanged
from services.realtime.domain.presence import STATES, Lease, Presence
from services.realtime.settings import Settings
from services.realtime.store import SHARDS, PresenceStore
from tests.integration.realtime.conftest import (
    ACME,
    ANA,
    BEN,
    LEASE_SECONDS,
    RIVAL,
    Hub,
    MakeReplica,
    Replica,
    ValkeyProcess,
    leases,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


class Announced:
    """What the PRESENCE stream holds."""

    def __init__(self, admin: Client) -> None:
        self._jetstream = admin.jetstream()

    async def all(self) -> list[tuple[UUID, str]]:
        state = (await self._jetstream.stream_info("PRESENCE")).state
        facts = []
        for seq in range(max(state.first_seq, 1), state.last_seq + 1):
            message = await self._jetstream.get_msg("PRESENCE", seq)
            fact = PresenceChanged.FromString(message.data or b"")
            facts.append((UUID(fact.presence.user_id), fact.presence.state))
        return facts

    async def of(self, user: UUID) -> list[str]:
        return [state for who, state in await self.all() if who == user]


@pytest.fixture
def announced(admin: Client) -> Announced:
    return Announced(admin)


@asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    """The loops of the replicas run; at the end they finish what waits."""
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for one in replicas:
            group.create_task(one.keeper.reap(stopping))
            group.create_task(one.keeper.announce(stopping))
            group.create_task(one.streams.watch(stopping))
        try:
            yield
        finally:
            stopping.set()


def states(people: list[Presence]) -> dict[UUID, str]:
    return {one.user_id: one.state for one in people}


async def test_who_joins_is_here_and_announced_once(replica: Replica, announced: Announced) -> None:
    async with running(replica):
        await replica.keeper.refresh(leases("online", "online"), [])
        roll = await replica.keeper.roll(ACME)
        assert not roll.is_stale
        assert [(one.user_id, one.state, one.connections) for one in roll.presence] == [
            (ANA, "online", 2)
        ]
        await replica.keeper.refresh(leases("online", "online"), [])
    assert await announced.all() == [(ANA, "online")]


async def test_a_person_is_the_most_present_of_their_connections(
    make_replica: MakeReplica,
) -> None:
    replica = await make_replica(lease_seconds=60.0)
    for said, expected in (
        (("idle", "away"), "away"),
        (("idle", "online"), "online"),
        (("idle", "idle"), "idle"),
        (("away", "away"), "away"),
    ):
        await replica.keeper.refresh(leases(*said), [])
        assert states((await replica.keeper.roll(ACME)).presence) == {ANA: expected}


async def test_any_run_of_refreshes_and_goodbyes_adds_up(make_replica: MakeReplica) -> None:
    """Against a model that remembers every connection."""
    replica = await make_replica(lease_seconds=60.0, leave_seconds=0.001)
    dice = random.Random(20260119)
    people = [UUID(int=number) for number in range(1, 5)]
    model: dict[UUID, dict[str, int]] = {person: {} for person in people}
    for _ in range(150):
        alive, closed = [], []
        for person in dice.sample(people, dice.randint(1, 3)):
            connection = f"c{dice.randint(0, 3)}"
            if dice.random() < 0.6:
                rank = dice.randint(1, 3)
                model[person][connection] = rank
                alive.append(Lease(ACME, person, connection, STATES[rank]))
            else:
                model[person].pop(connection, None)
                closed.append(Lease(ACME, person, connection, "offline"))
        await replica.keeper.refresh(alive, closed)
        expected = {
            person: (STATES[max(open_.values())], len(open_))
            for person, open_ in model.items()
            if open_
        }
        listed = (await replica.keeper.roll(ACME)).presence
        # Who has just left still counts until the next look.
        here = {one.user_id: (one.state, one.connections) for one in listed if one.connections}
        assert here == expected


async def test_leaving_is_announced_after_a_pause(replica: Replica, announced: Announced) -> None:
    async with running(replica):
        await replica.keeper.refresh(leases("online"), [])
        await replica.keeper.refresh([], leases("online"))
        listed = (await replica.keeper.roll(ACME)).presence
        assert [(one.state, one.connections) for one in listed] == [("online", 0)]

        async def has_left() -> bool:
            return await announced.of(ANA) == ["online", "offline"]

        await eventually(has_left)
        assert (await replica.keeper.roll(ACME)).presence == []


async def test_reloading_a_page_is_not_leaving(
    make_replica: MakeReplica, announced: Announced
) -> None:
    replica = await make_replica(lease_seconds=60.0)
    async with running(replica):
        await replica.keeper.refresh(leases("online"), [])
        await replica.keeper.refresh([], leases("online"))
        await replica.keeper.refresh(leases("online", gateway="g2"), [])
        # Ben comes and goes: by the time his leaving is told, Ana's would have been, too.
        await replica.keeper.refresh(leases("online", user=BEN), [])
        await replica.keeper.refresh([], leases("online", user=BEN))

        async def ben_left() -> bool:
            return await announced.of(BEN) == ["online", "offline"]

        await eventually(ben_left)
    assert await announced.of(ANA) == ["online"]


async def test_a_gateway_that_dies_takes_its_leases_along(
    replica: Replica, announced: Announced, hub: Hub
) -> None:
    async with running(replica):
        await replica.keeper.refresh(leases("online", "away"), [])

        async def has_left() -> bool:
            return await announced.of(ANA) == ["online", "offline"]

        await eventually(has_left, within=LEASE_SECONDS + 5)


async def test_one_dead_gateway_of_two_lowers_the_state_only(
    replica: Replica, announced: Announced
) -> None:
    async with running(replica):
        await replica.keeper.refresh(leases("online", gateway="dying"), [])

        async def is_idle() -> bool:
            await replica.keeper.refresh(leases("idle", gateway="living"), [])
            return await announced.of(ANA) == ["online", "idle"]

        await eventually(is_idle)
        (ana,) = (await replica.keeper.roll(ACME)).presence
        assert (ana.state, ana.connections) == ("idle", 1)


async def test_of_several_replicas_one_announces(
    make_replica: MakeReplica, announced: Announced
) -> None:
    crowd = [UUID(int=number) for number in range(1, 41)]
    replicas = [await make_replica() for _ in range(3)]
    async with running(*replicas):
        async with asyncio.TaskGroup() as group:
            for number, one in enumerate(replicas):
                mine = [
                    Lease(ACME, person, f"g{number}:{person.int}", "online") for person in crowd
                ]
                group.create_task(one.keeper.refresh(mine, []))

        async def all_left() -> bool:
            told = await announced.all()
            return sum(state == "offline" for _, state in told) >= len(crowd)

        await eventually(all_left, within=LEASE_SECONDS + 8)
    told = await announced.all()
    assert sorted(told) == sorted(
        (person, state) for person in crowd for state in ("online", "offline")
    )


async def test_a_replica_that_dies_with_an_announcement_in_hand_loses_nothing(
    make_replica: MakeReplica, announced: Announced
) -> None:
    dying, living = [await make_replica(lease_seconds=60.0, announce_ms=200) for _ in range(2)]
    # Its announcer never runs: the change was handed to it and is never told.
    await dying.keeper.refresh(leases("online"), [])
    assert await announced.all() == []
    async with running(living):

        async def is_told() -> bool:
            return await announced.of(ANA) == ["online"]

        await eventually(is_told)


async def test_changes_wait_while_the_stream_is_away(
    replica: Replica, admin: Client, announced: Announced
) -> None:
    await admin.jetstream().delete_stream("PRESENCE")
    async with running(replica):
        await replica.keeper.refresh(leases("online"), [])

        async def is_told() -> bool:
            names = [one.config.name for one in await admin.jetstream().streams_info()]
            return "PRESENCE" in names and await announced.of(ANA) == ["online"]

        await eventually(is_told, within=15)


async def test_organizations_do_not_see_one_another(replica: Replica) -> None:
    both = [*leases("online"), *leases("idle", user=BEN, org=RIVAL)]
    await replica.keeper.refresh(both, [])
    assert states((await replica.keeper.roll(ACME)).presence) == {ANA: "online"}
    assert states((await replica.keeper.roll(RIVAL)).presence) == {BEN: "idle"}
    assert (await replica.keeper.roll(ACME, BEN)).presence == []
    # A goodbye for a connection of the same name elsewhere ends nothing here.
    await replica.keeper.refresh([], leases("online", org=RIVAL))
    assert states((await replica.keeper.roll(ACME)).presence) == {ANA: "online"}


async def test_one_person_can_be_asked_about(replica: Replica) -> None:
    await replica.keeper.refresh([*leases("online"), *leases("away", user=BEN)], [])
    assert states((await replica.keeper.roll(ACME, BEN)).presence) == {BEN: "away"}
    assert (await replica.keeper.roll(ACME, UUID(int=99))).presence == []


async def test_a_wiped_store_is_rebuilt_by_the_next_refresh_and_everyone_is_told(
    make_replica: MakeReplica, valkey_url: str, announced: Announced, hub: Hub
) -> None:
    replica = await make_replica(lease_seconds=60.0)
    client = Redis.from_url(valkey_url)
    async with running(replica):
        await replica.keeper.refresh([*leases("online"), *leases("online", user=BEN)], [])
        await eventually(lambda: len(hub.on("org")) == 1)
        await client.flushall()
        assert (await replica.keeper.roll(ACME)).presence == []
        # Ben's gateway died with the store: nobody can say that he left, so all must look again.
        await replica.keeper.refresh(leases("online"), [])
        assert states((await replica.keeper.roll(ACME)).presence) == {ANA: "online"}
        await eventually(lambda: len(hub.on("org")) == 2)
    assert hub.on("org")[1] == ("presence.changed", {"reload": True})
    assert await announced.of(ANA) == ["online", "online"]
    await client.aclose()


async def test_no_person_holds_the_store_with_connections(make_replica: MakeReplica) -> None:
    replica = await make_replica(lease_seconds=60.0)
    await replica.keeper.refresh(leases(*["online"] * 500), [])
    (ana,) = (await replica.keeper.roll(ACME)).presence
    assert (ana.state, ana.connections) == ("online", 64)


async def test_more_leases_than_one_call_takes_are_all_taken(make_replica: MakeReplica) -> None:
    replica = await make_replica(lease_seconds=60.0)
    crowd = [Lease(ACME, UUID(int=number), "c", "online") for number in range(1, 1201)]
    await replica.keeper.refresh(crowd, [])
    assert len((await replica.keeper.roll(ACME)).presence) == 1200
    await replica.keeper.refresh([], crowd)
    listed = (await replica.keeper.roll(ACME)).presence
    assert {one.connections for one in listed} == {0}


async def test_nothing_is_left_behind_when_everyone_has_gone(
    make_replica: MakeReplica, valkey_url: str
) -> None:
    replica = await make_replica(announce_ms=500)
    client = Redis.from_url(valkey_url, decode_responses=True)
    async with running(replica):
        await replica.keeper.refresh(
            [*leases("online"), *leases("idle", user=BEN, org=RIVAL)], leases("away", user=BEN)
        )

        async def only_epochs() -> bool:
            keys = [str(key) for key in await client.keys("*")]
            return bool(keys) and all(key.endswith(":epoch") for key in keys)

        await eventually(only_epochs, within=LEASE_SECONDS + 15)
        assert all([await replica.store.due(shard) == [] for shard in range(SHARDS)])
    await client.aclose()


async def test_without_the_store_the_last_known_is_told_and_marked_as_old(
    make_replica: MakeReplica, valkey_process: ValkeyProcess
) -> None:
    replica = await make_replica(valkey_url=valkey_process.url, lease_seconds=60.0)
    await replica.keeper.refresh([*leases("online"), *leases("idle", user=BEN)], [])
    await replica.store.check()
    valkey_process.kill()
    with pytest.raises(Unavailable):
        await replica.store.check()
    with pytest.raises(Unavailable):
        await replica.keeper.refresh(leases("online"), [])
    roll = await replica.keeper.roll(ACME)
    assert roll.is_stale
    assert states(roll.presence) == {ANA: "online", BEN: "idle"}
    assert states((await replica.keeper.roll(ACME, BEN)).presence) == {BEN: "idle"}
    assert (await replica.keeper.roll(RIVAL)).presence == []
    valkey_process.start()
    await replica.keeper.refresh(leases("online"), [])
    roll = await replica.keeper.roll(ACME)
    assert not roll.is_stale
    assert states(roll.presence) == {ANA: "online"}


async def test_since_grows_with_every_change_of_a_person(make_replica: MakeReplica) -> None:
    replica = await make_replica(lease_seconds=60.0)
    seen = []
    for state in ("online", "away", "online", "idle"):
        await replica.keeper.refresh(leases(state), [])
        (ana,) = (await replica.keeper.roll(ACME)).presence
        seen.append(ana.since_us)
    assert seen == sorted(set(seen))


async def test_a_store_that_refuses_is_said_to_be_unavailable(
    make_replica: MakeReplica, settings: Settings, valkey_url: str
) -> None:
    wrong = valkey_url.replace("redis://:", "redis://:not-")
    replica = await make_replica(valkey_url=type(settings.valkey_url)(wrong))
    assert isinstance(replica.store, PresenceStore)
    with pytest.raises(Unavailable):
        await replica.keeper.refresh(leases("online"), [])
    assert (await replica.keeper.roll(new_id())).is_stale
