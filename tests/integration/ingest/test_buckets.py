"""Buckets: created once, described, listed with their last update, removed with their events."""

import asyncio

import pytest

from chassis.errors import Exhausted, Invalid, NotFound
from services.ingest.domain.buckets import MAX_BUCKETS
from services.ingest.domain.columns import REMOVED
from services.ingest.edits import CHUNK
from tests.integration.ingest.conftest import (
    LAPTOP,
    NOW,
    PHONE,
    SECOND_US,
    SOURCE,
    T0,
    Agent,
    Replica,
    event,
)

SAID = {
    "type": "currentwindow",
    "client": "aw-watcher-window",
    "hostname": "laptop",
    "data_json": '{"a":1}',
}


async def test_a_bucket_is_created_once_and_comes_back_as_described(ana: Agent):
    assert await ana.put_bucket(**SAID)
    assert not await ana.put_bucket(**{**SAID, "client": "other"})
    [bucket] = await ana.buckets()
    assert {name: getattr(bucket, name) for name in SAID} == SAID
    assert (bucket.name, bucket.device_id) == (SOURCE, str(LAPTOP))
    assert (bucket.created_us, bucket.last_updated_us) == (NOW, 0)


async def test_a_bucket_is_described_anew_only_when_asked_and_keeps_its_device(ana: Agent):
    await ana.put_bucket(**SAID)
    changed = {
        "type": "t",
        "client": "c",
        "hostname": "h",
        "data_json": "",
        "device_id": str(PHONE),
    }
    assert not await ana.put_bucket(should_update=True, **changed)
    [bucket] = await ana.buckets()
    assert (bucket.type, bucket.client, bucket.hostname, bucket.data_json) == ("t", "c", "h", "")
    assert bucket.device_id == str(LAPTOP)


async def test_the_last_update_is_the_end_of_the_newest_event(ana: Agent):
    await ana.put_bucket(SOURCE)
    await ana.put_bucket("other")
    await ana.sent(event(-90 * 86_400), event(0, 7))
    await ana.sent(event(100), device=PHONE)
    await ana.sent(event(200), source="no bucket")
    found = {bucket.name: bucket.last_updated_us for bucket in await ana.buckets()}
    assert found == {SOURCE: T0 + 7 * SECOND_US, "other": 0}
    [newest] = await ana.events(device_id=str(LAPTOP), source=SOURCE, span=(0, 1))
    await ana.delete(newest.event_id)
    [bucket] = await ana.buckets(SOURCE)
    assert bucket.last_updated_us == T0 + (5 - 90 * 86_400) * SECOND_US


async def test_buckets_are_listed_by_name(ana: Agent):
    for name in ("b", "c", "a"):
        await ana.put_bucket(name)
    assert [bucket.name for bucket in await ana.buckets()] == ["a", "b", "c"]
    assert [bucket.name for bucket in await ana.buckets("b")] == ["b"]
    assert await ana.buckets("d") == []


async def test_parallel_creation_creates_once(ana: Agent):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ana.put_bucket()) for _ in range(8)]
    assert sum(task.result() for task in tasks) == 1


async def test_a_person_has_room_for_a_thousand_buckets(ana: Agent, replica: Replica):
    await replica.fetch(
        """INSERT INTO buckets SELECT $1, $2, 'b' || n, $3, '', '', '', '', now()
           FROM generate_series(1, $4) AS n""",
        ana.principal.org_id,
        ana.principal.user_id,
        LAPTOP,
        MAX_BUCKETS - 1,
    )
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(ana, f"new{n}")) for n in range(4)]
    assert sorted(task.result() for task in tasks) == ["created", "full", "full", "full"]
    assert len(await ana.buckets()) == MAX_BUCKETS
    assert not await ana.put_bucket("b1")


async def _outcome(agent: Agent, name: str) -> str:
    try:
        return "created" if await agent.put_bucket(name) else "existed"
    except Exhausted:
        return "full"


async def test_removing_a_bucket_removes_its_events_and_says_so(ana: Agent, replica: Replica):
    await ana.put_bucket()
    events = [event(5 * i, title=f"{i}") for i in range(CHUNK + 500)]
    await ana.sent(*events)
    await ana.sent(event(0), source="other")
    told = len(await replica.announced())
    assert await ana.delete_bucket() == CHUNK + 500
    assert await ana.buckets() == []
    assert [one.source for one in await ana.events()] == ["other"]
    tombstones = [
        flags
        for message in (await replica.announced())[told:]
        for activity in message.activity
        for flags in activity.events.flags
    ]
    assert tombstones == [1 | REMOVED] * (CHUNK + 500)
    # Sent again, they stay removed.
    assert await ana.sent(*events) == (0, CHUNK + 500)
    with pytest.raises(NotFound):
        await ana.delete_bucket()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "\0"}, "name"),
        ({"type": "x" * 201}, "type"),
        ({"client": "\0"}, "client"),
        ({"data_json": "[]"}, "data"),
        ({"data_json": '{"a":"' + "x" * 65_536 + '"}'}, "data"),
        ({"device_id": "x"}, "device_id"),
    ],
)
async def test_a_bucket_that_can_not_be_kept_names_the_field(
    ana: Agent, change: dict[str, str], field: str
):
    with pytest.raises(Invalid) as refusal:
        await ana.put_bucket(**change)
    assert refusal.value.violations[0].field == field


async def test_a_name_that_no_bucket_can_have_is_refused(ana: Agent):
    for act in (ana.buckets, ana.delete_bucket):
        for name in ("\0", "x" * 201):
            with pytest.raises(Invalid, match="name"):
                await act(name)
