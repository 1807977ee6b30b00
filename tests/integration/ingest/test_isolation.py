"""Nobody sees or touches what is somebody else's, in the same organization or another."""

import pytest

from chassis.errors import Forbidden, NotFound
from tests.integration.ingest.conftest import ACME, ANA, BEN, RIVAL, SOURCE, Replica, event, some_id

STRANGERS = [(BEN, ACME), (ANA, RIVAL), (BEN, RIVAL)]


@pytest.mark.parametrize(("user", "org"), STRANGERS)
async def test_strangers_see_nothing(replica: Replica, user, org):
    ana, stranger = replica.agent(), replica.agent(user, org)
    await ana.put_bucket()
    await ana.sent(event(0, 7200))
    [stored] = await ana.events()
    for more in (
        {},
        {"device_id": stored.device_id, "source": stored.source},
        {"event_id": stored.event_id},
    ):
        assert await stranger.events(**more) == []
    assert await stranger.count() == 0
    assert await stranger.count(device_id=stored.device_id, source=stored.source) == 0
    assert await stranger.buckets() == []
    cursor = (await ana.page(limit=1)).page.next_cursor
    assert cursor == ""


@pytest.mark.parametrize(("user", "org"), STRANGERS)
async def test_strangers_change_nothing(replica: Replica, user, org):
    ana, stranger = replica.agent(), replica.agent(user, org)
    await ana.put_bucket(client="ana's")
    name = some_id()
    await ana.sent(event(0), event(50), ids=["", name])
    before = await ana.events()
    for one in before:
        assert not await stranger.delete(one.event_id)
        with pytest.raises(NotFound):
            await stranger.replace(one.event_id, event(0, 9, app="Evil"))
    with pytest.raises(NotFound):
        await stranger.delete_bucket(SOURCE)
    await stranger.put_bucket(client="stranger's", should_update=True)
    # Even with the same device key, which the gateway would never give to somebody else.
    await stranger.beat(1, app="Evil")
    await stranger.append(event(0, 600), event(50, 600), ids=["", name])
    assert await ana.events() == before
    assert [bucket.client for bucket in await ana.buckets()] == ["ana's"]


async def test_a_cursor_of_somebody_else_leads_only_to_ones_own(replica: Replica):
    ana, ben = replica.agent(), replica.agent(BEN, RIVAL)
    await ana.sent(*[event(i) for i in range(5)])
    await ben.sent(event(1, title="ben's"))
    cursor = (await ana.page(limit=2)).page.next_cursor
    assert [one.title for one in (await ben.page(cursor=cursor)).events] == ["ben's"]


async def test_announcements_carry_the_organization_of_the_caller(replica: Replica):
    await replica.agent(BEN, RIVAL).sent(event(0))
    [row] = await replica.fetch("SELECT subject FROM outbox")
    assert row["subject"].endswith(f".{RIVAL}")


WRITES = {
    "AppendEvents": lambda agent: agent.sent(event(0)),
    "Heartbeat": lambda agent: agent.beat(0),
    "ReplaceEvent": lambda agent: agent.replace(some_id(), event(0)),
    "DeleteEvent": lambda agent: agent.delete(some_id()),
    "PutBucket": lambda agent: agent.put_bucket(),
    "DeleteBucket": lambda agent: agent.delete_bucket(),
}
READS = {
    "ListEvents": lambda agent: agent.events(),
    "CountEvents": lambda agent: agent.count(),
    "ListBuckets": lambda agent: agent.buckets(),
}


@pytest.mark.parametrize("method", [*WRITES, *READS])
async def test_a_credential_needs_the_scope(replica: Replica, method: str):
    other = "read" if method in WRITES else "events:write"
    agent = replica.agent(scopes=frozenset({other}))
    with pytest.raises(Forbidden, match="scope"):
        await {**WRITES, **READS}[method](agent)


@pytest.mark.parametrize("method", [*WRITES, *READS])
async def test_a_service_is_nobody_with_events_of_its_own(replica: Replica, method: str):
    agent = replica.agent(ANA.__class__(int=0))
    with pytest.raises(Forbidden, match="person"):
        await {**WRITES, **READS}[method](agent)


def test_every_method_of_the_service_is_covered():
    from protos.ingest.v1.ingest_pb2 import DESCRIPTOR

    methods = DESCRIPTOR.services_by_name["IngestService"].methods_by_name
    # AppendMany has its own tests: it acts under the tokens of others.
    assert set(methods) == {*WRITES, *READS, "AppendMany"}
