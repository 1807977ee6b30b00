"""Erasure, retention, and the months ahead."""

import random
from uuid import UUID

from chassis import inbox
from chassis.clock import ManualClock
from chassis.jobs import JobRun
from chassis.postgres import transaction
from protos.accounts.v1.announcements_pb2 import (
    AccountsAnnouncement,
    CredentialRevoked,
    MemberChanged,
    UserErased,
)
from services.ingest.consumers import ACCOUNTS
from services.ingest.store import erasure
from tests.integration.ingest.conftest import (
    ACME,
    ANA,
    BEN,
    PHONE,
    RIVAL,
    Agent,
    MakeReplica,
    Replica,
    delivery,
    event,
    some_id,
)

RUN = JobRun(run_id="", scheduled_for_us=0, args={}, org_id="system")
TABLES = ("events", "event_identities", "buckets")


def erased(user: UUID = ANA, org: UUID = ACME) -> bytes:
    fact = UserErased(org_id=str(org), user_id=str(user))
    return AccountsAnnouncement(user_erased=fact).SerializeToString()


async def fill(agent: Agent, *, count: int = 12) -> None:
    """Events in several months, chosen ids, tombstones, buckets."""
    dice = random.Random(1)
    events = [event(-dice.randrange(200 * 86_400)) for _ in range(count)]
    await agent.put_bucket()
    await agent.sent(*events)
    await agent.sent(*events, ids=[some_id() for _ in events], device=PHONE)
    await agent.delete((await agent.events())[0].event_id)
    await agent.beat(0)


async def rows_of(replica: Replica, table: str, user: UUID = ANA, org: UUID = ACME) -> int:
    where = "org_id = $1" if table == "event_identities" else f"org_id = $1 AND user_id = '{user}'"
    [row] = await replica.fetch(f"SELECT count(*) AS number FROM {table} WHERE {where}", org)
    return int(row["number"])


async def test_an_erased_person_leaves_nothing_and_nobody_else_loses_anything(replica: Replica):
    ana, ben, twin = replica.agent(), replica.agent(BEN), replica.agent(ANA, RIVAL)
    for agent in (ana, ben, twin):
        await fill(agent)
    kept = await ben.events(), await twin.events()
    identities = await rows_of(replica, "event_identities")
    await replica.consumers.on_accounts([delivery("1", erased())])
    assert await rows_of(replica, "events") == 0
    assert await rows_of(replica, "buckets") == 0
    assert await rows_of(replica, "event_identities") == identities // 2
    assert (await ben.events(), await twin.events()) == kept
    assert len(await ben.buckets()) == 1


async def test_an_erasure_takes_as_many_transactions_as_it_needs(replica: Replica):
    ana = replica.agent()
    for source in ("a", "b", "c"):
        await ana.sent(*[event(i) for i in range(erasure.CHUNK - 1000)], source=source)
    assert await erasure.erase_events(replica.pool, ACME, ANA) == 3 * (erasure.CHUNK - 1000)
    assert await rows_of(replica, "events") == 0


async def test_an_erasure_delivered_twice_does_no_harm(replica: Replica):
    await fill(replica.agent())
    batch = [delivery("1", erased()), delivery("2", erased()), delivery("1", erased())]
    await replica.consumers.on_accounts(batch)
    await replica.consumers.on_accounts(batch)
    assert [await rows_of(replica, table) for table in TABLES] == [0, 0, 0]
    found = await replica.fetch("SELECT message_id FROM inbox WHERE consumer = $1", ACCOUNTS)
    assert sorted(row["message_id"] for row in found) == ["1", "2"]


async def test_what_came_late_is_erased_when_the_message_comes_again(replica: Replica):
    ana = replica.agent()
    await fill(ana)
    await replica.consumers.on_accounts([delivery("1", erased())])
    await ana.sent(event(0))
    await replica.consumers.on_accounts([delivery("1", erased())])
    assert await rows_of(replica, "events") == 0


async def test_other_facts_about_accounts_change_nothing(replica: Replica):
    ana = replica.agent()
    await fill(ana)
    before = await ana.events()
    member = MemberChanged(org_id=str(ACME), user_id=str(ANA), revision=2)
    revoked = CredentialRevoked(org_id=str(ACME), user_id=str(ANA))
    await replica.consumers.on_accounts(
        [
            delivery("1", AccountsAnnouncement(member_changed=member).SerializeToString()),
            delivery("2", AccountsAnnouncement(credential_revoked=revoked).SerializeToString()),
        ]
    )
    assert await ana.events() == before


async def test_the_months_ahead_are_there_before_their_events(replica: Replica, clock: ManualClock):
    result = await replica.upkeep.partitions(RUN)
    assert result["months"] == 4
    assert await replica.partitions() == {
        "events_202601",
        "events_202602",
        "events_202603",
        "events_202604",
    }
    assert (await replica.upkeep.partitions(RUN))["months"] == 0
    clock.advance(31 * 86_400)
    assert (await replica.upkeep.partitions(RUN))["months"] == 1


async def test_without_a_limit_nothing_is_ever_dropped(replica: Replica, clock: ManualClock):
    ana = replica.agent()
    await fill(ana)
    before = await ana.events()
    clock.advance(20 * 365 * 86_400)
    result = await replica.upkeep.retention(RUN)
    assert (result["months"], result["identities"]) == (0, 0)
    assert await ana.events() == before


async def test_retention_drops_whole_months_with_their_identities(make_replica: MakeReplica):
    month = 31 * 86_400
    everything = await make_replica()
    old, older = event(-month), event(-2 * month)
    await everything.agent().sent(event(0), old, older, ids=["now", "old", "older"])
    replica = await make_replica(retain_months=1)
    result = await replica.upkeep.retention(RUN)
    assert (result["months"], result["identities"]) == (1, 1)
    ana = replica.agent()
    assert await ana.count() == 2
    # What is dropped every night is not taken in anew.
    answer = await ana.append(older)
    assert [error.field for one in answer.rejected for error in one.errors] == ["start"]
    assert await ana.sent(old, ids=["old"]) == (0, 1)
    assert (await replica.upkeep.retention(RUN))["months"] == 0


async def test_message_ids_are_forgotten_once_they_can_not_come_back(replica: Replica):
    async with transaction(replica.pool) as conn:
        await inbox.claim(conn, ACCOUNTS, [delivery("old", b""), delivery("new", b"")])
    await replica.fetch(
        "UPDATE inbox SET processed_at = now() - interval '9 days' WHERE message_id = 'old'"
    )
    assert (await replica.upkeep.retention(RUN))["messages"] == 1
    assert [row["message_id"] for row in await replica.fetch("SELECT message_id FROM inbox")] == [
        "new"
    ]
