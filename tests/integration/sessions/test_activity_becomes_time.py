"""Stored rows equal one batch recomputation, whatever came in whichever order."""

import asyncio
import random
from uuid import UUID

import pytest
from google.protobuf.message import DecodeError

from chassis.postgres import connection
from chassis.subscription import Delivery
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement, UserErased
from services.sessions.store import days
from tests.integration.sessions.conftest import (
    ANA,
    ORG,
    SECOND_US,
    T0,
    Work,
    delivery,
    event,
    recorded,
)

pytestmark = pytest.mark.integration


async def test_125_samples_are_one_session_of_625_seconds(work: Work) -> None:
    await work.hear(recorded([event(5 * i, 5) for i in range(125)]))
    [block] = await work.stored()
    [session] = block.sessions
    assert session.active_us == 625 * SECOND_US
    [told] = await work.announced()
    assert [one.id for one in told.updated] == [str(session.id)]
    assert [day.active_us for day in told.days] == [625 * SECOND_US]


async def test_the_same_announcement_twice_changes_nothing(work: Work) -> None:
    payload = recorded([event(5 * i, 5) for i in range(125)])
    await work.hear(payload, ids=["m1"])
    before = await work.stored()
    await work.hear(payload, ids=["m1"])
    await work.hear(payload, ids=["m2"])
    assert await work.stored() == before
    assert len(await work.announced()) == 1


async def test_a_late_event_bridges_two_sessions(work: Work) -> None:
    await work.hear(recorded([event(0, 60)]), recorded([event(600, 60)]))
    first, second = [s for block in await work.stored() for s in block.sessions]
    await work.hear(recorded([event(300, 60)]))
    [bridged] = [s for block in await work.stored() for s in block.sessions]
    assert (bridged.start_us, bridged.end_us) == (T0, T0 + 660 * SECOND_US)
    told = (await work.announced())[-1]
    assert [one.id for one in told.updated] == [str(first.id)]
    assert list(told.removed) == [str(second.id)]


async def test_an_event_that_grows_is_counted_once(work: Work) -> None:
    for seconds in (10, 40, 25):
        await work.hear(recorded([event(0, seconds, name="beat")]))
    [block] = await work.stored()
    assert block.end_us - block.start_us == 40 * SECOND_US


async def test_a_removed_event_leaves_no_trace_and_does_not_come_back(work: Work) -> None:
    await work.hear(recorded([event(0, 60, name="one")]))
    await work.hear(recorded([event(0, 60, name="one", flags=16, revision=1)]))
    assert await work.stored() == []
    async with connection(work.pool) as conn:
        assert await days.list_dates(conn, (ORG, ANA)) == []
    # The announcement of its birth arrives once more, late.
    await work.hear(recorded([event(0, 60, name="one")]))
    assert await work.stored() == []


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_and_batching_gives_the_batch_result(work: Work, seed: int) -> None:
    chance = random.Random(seed)
    apps = ["Code", "Slack", "Firefox", "Terminal"]
    events = [
        event(
            chance.randrange(0, 7200),
            chance.choice([0, 5, 5, 60, 700]),
            app=chance.choice(apps),
            flags=chance.choice([0, 1, 1, 2, 4]),
        )
        for _ in range(150)
    ]
    for start in range(0, len(events), 10):
        await work.hear(recorded(events[start : start + 10]))
        assert await work.stored() == await work.batch()
    told = [day for message in await work.announced() for day in message.days]
    total = sum(s.active_us for b in await work.stored() for s in b.sessions)
    latest = {day.date: day for day in told}
    assert sum(day.active_us for day in latest.values()) == total
    assert all(sum(day.by_hour_us) == day.active_us for day in latest.values())


async def test_midnight_splits_days_not_sessions(work: Work) -> None:
    midnight = 1_768_867_200 * SECOND_US - T0
    await work.hear(recorded([event(midnight / SECOND_US - 3600, 7200)]))
    assert len([s for b in await work.stored() for s in b.sessions]) == 1
    [told] = await work.announced()
    assert [day.active_us for day in told.days] == [3600 * SECOND_US] * 2


async def test_a_zone_that_arrives_late_cuts_days_anew(work: Work) -> None:
    # 2026-01-20 00:00 UTC is still the 19th in New York.
    await work.hear(recorded([event(1_768_867_200 - 1_768_790_100, 1800)]))
    await work.move(1, (0, "America/New_York"))
    async with connection(work.pool) as conn:
        dates = await days.list_dates(conn, (ORG, ANA))
    assert [str(one) for one in dates] == ["2026-01-19"]
    # An older revision changes nothing.
    await work.move(0, (0, "Asia/Tokyo"))
    async with connection(work.pool) as conn:
        assert await days.list_dates(conn, (ORG, ANA)) == dates


async def test_people_and_organizations_stay_apart(work: Work) -> None:
    ben, other_org = UUID(int=0xB), UUID(int=2)
    await work.hear(
        recorded([event(0, 60)]),
        recorded([event(0, 30)], user=ben),
        recorded([event(0, 10)], org=other_org),
    )
    assert sum(s.active_us for b in await work.stored() for s in b.sessions) == 60 * SECOND_US
    assert sum(s.active_us for b in await work.stored(ben) for s in b.sessions) == 30 * SECOND_US
    assert {message.org_id for message in await work.announced()} == {str(ORG), str(other_org)}


async def test_the_erased_are_forgotten(work: Work) -> None:
    await work.hear(recorded([event(0, 60)]))
    await work.move(1, (0, "UTC"))
    erased = UserErased(org_id=str(ORG), user_id=str(ANA))
    payload = AccountsAnnouncement(user_erased=erased).SerializeToString()
    await work.consumers.on_accounts([delivery("erase", payload)])
    async with connection(work.pool) as conn:
        for table in ("activity", "blocks", "sessions", "days", "members", "timelines"):
            assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_one_block_touched_far_apart_in_one_commit_is_derived_once(work: Work) -> None:
    day = 86_400
    await work.hear(recorded([event(0, 20 * day, app="Code", flags=0)]))
    await work.hear(recorded([event(day, 60, app="Slack", flags=2), event(19 * day, 600, flags=2)]))
    assert await work.stored() == await work.batch()
    assert len(await work.stored()) == 3


async def test_partitions_that_wait_together_share_a_commit_and_one_bad_batch_fails_alone(
    work: Work,
) -> None:
    people = [UUID(int=0x100 + n) for n in range(8)]
    batches = [[delivery(f"m{n}", recorded([event(0, 60)], user=p))] for n, p in enumerate(people)]
    batches.append([delivery("broken", b"\xff\xff not a message")])
    results = []

    async def hear(batch: list[Delivery]) -> None:
        try:
            await work.consumers.on_activity(batch)
        except DecodeError as error:
            results.append(error)

    async with asyncio.TaskGroup() as group:
        for batch in batches:
            group.create_task(hear(batch))
    # The broken one fails; whoever led its commit may have failed with it, and comes again.
    assert 1 <= len(results) <= 2
    for batch in batches[:-1]:
        await work.consumers.on_activity(batch)
    for person in people:
        assert sum(s.active_us for b in await work.stored(person) for s in b.sessions) == (
            60 * SECOND_US
        )
    assert len(await work.announced()) == len(people)
