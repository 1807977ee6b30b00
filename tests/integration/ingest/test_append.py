"""Appends on a real database: exact answers, identity, growth, months."""

import asyncio
from uuid import uuid5

import asyncpg
import pytest

from chassis.clock import ManualClock
from chassis.errors import Exhausted, Invalid
from services.ingest.domain.admission import AHEAD_US, YEAR_2000_US
from services.ingest.domain.columns import CLAMPED
from tests.integration.ingest.conftest import (
    LAPTOP,
    NOW,
    PHONE,
    SECOND_US,
    T0,
    Agent,
    MakeReplica,
    Replica,
    blocked,
    event,
    some_id,
    spans,
    waiting_for_lock,
)
from tests.support.eventually import eventually

FULL = {
    "app": "Code",
    "title": "loom.py",
    "url": "https://example.com/a",
    "project": "loom",
    "file": "/src/loom.py",
    "language": "Python",
    "category": "development",
    "data_json": '{"a":1,"b":[true]}',
}


async def test_an_event_comes_back_as_it_was_said(ana: Agent):
    assert await ana.sent(event(0, 5, **FULL)) == (1, 0)
    [stored] = await ana.events()
    assert {name: getattr(stored, name) for name in FULL} == FULL
    assert (stored.start_us, stored.duration_us, stored.flags) == (T0, 5 * SECOND_US, 1)
    assert (stored.source, stored.device_id) == ("aw-watcher-window_laptop", str(LAPTOP))
    assert stored.received_us == NOW


async def test_sending_again_changes_nothing_and_says_so(ana: Agent, replica: Replica):
    events = [event(5 * i, title=str(i)) for i in range(250)]
    assert await ana.sent(*events) == (250, 0)
    before, told = await ana.events(), len(await replica.announced())
    assert await ana.sent(*events) == (0, 250)
    assert await ana.sent(*events[:100], event(5000)) == (1, 100)
    assert await ana.events() == [*await ana.events(span=(5000, 5001)), *before]
    assert len(await replica.announced()) == told + 1


async def test_the_same_batch_from_parallel_callers_is_accepted_once(ana: Agent):
    events = [event(5 * i) for i in range(50)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ana.sent(*events)) for _ in range(10)]
    answers = [task.result() for task in tasks]
    assert sorted(answers) == [(0, 50)] * 9 + [(50, 0)]
    assert await ana.count() == 50


async def test_a_hundred_parallel_appends_share_commits_and_each_gets_its_own_answer(
    ana: Agent, replica: Replica
):
    async def one(number: int) -> tuple[int, int]:
        own = [event(600 * number + i) for i in range(number % 7)]
        return await ana.sent(*own, event(-10), source=f"s{number}", device=LAPTOP)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(100)]
    assert [task.result() for task in tasks] == [(n % 7 + 1, 0) for n in range(100)]
    assert await ana.count() == sum(n % 7 + 1 for n in range(100))
    assert len(await replica.announced()) < 20


async def test_two_replicas_never_accept_one_event_twice(make_replica: MakeReplica):
    agents = [(await make_replica()).agent() for _ in range(2)]
    events = [event(i, title=f"{i}") for i in range(300)]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(agent.sent(*(events if turn % 2 else reversed(events))))
            for turn, agent in enumerate(agents * 5)
        ]
    assert sum(task.result()[0] for task in tasks) == 300
    assert await agents[0].count() == 300


async def test_a_longer_report_grows_the_event_and_the_longest_one_stays(ana: Agent):
    name = some_id()
    assert await ana.sent(event(0, 5, title="draft"), ids=[name]) == (1, 0)
    assert await ana.sent(event(0, 60, title="final"), ids=[name]) == (1, 0)
    assert await ana.sent(event(0, 30, title="late"), ids=[name]) == (0, 1)
    [stored] = await ana.events()
    assert (stored.event_id, stored.title, stored.duration_us) == (name, "final", 60 * SECOND_US)


async def test_growth_is_announced_with_the_whole_event(ana: Agent, replica: Replica):
    await ana.sent(event(0, 5))
    await ana.sent(event(0, 9), event(20))
    grown = (await replica.announced())[1].activity[0].events
    assert list(grown.duration_us) == [9 * SECOND_US, 5 * SECOND_US]
    assert list(grown.app) == ["Firefox", "Firefox"]


async def test_a_clamped_event_is_a_duplicate_when_sent_again_later(ana: Agent, clock: ManualClock):
    hour = {**event(0), "start_us": NOW, "duration_us": 3600 * SECOND_US}
    assert await ana.sent(hour) == (1, 0)
    [stored] = await ana.events()
    assert (stored.duration_us, stored.flags) == (AHEAD_US, 1 | CLAMPED)
    clock.advance(1800)
    assert await ana.sent(hour) == (0, 1)
    assert await ana.events() == [stored]
    assert await ana.sent({**hour, "duration_us": 3601 * SECOND_US}) == (1, 0)
    assert (await ana.events())[0].duration_us == 1800 * SECOND_US + AHEAD_US


async def test_a_clients_id_is_one_event_across_months(ana: Agent):
    name = some_id()
    assert await ana.sent(event(0), ids=[name]) == (1, 0)
    assert await ana.sent(event(-90 * 86_400), event(5), ids=[name, name]) == (0, 2)
    assert spans(await ana.events()) == [(0, 5)]
    assert await ana.sent(event(0), ids=[name], device=PHONE) == (1, 0)


async def test_any_text_will_do_as_an_id(ana: Agent):
    assert await ana.sent(event(0), event(5), ids=["row 1", "row 2"]) == (2, 0)
    assert await ana.sent(event(0), event(5), ids=["row 1", "row 2"]) == (0, 2)
    assert await ana.sent(event(700, title="other"), ids=["row 1"]) == (0, 1)


async def test_an_event_read_back_and_sent_with_its_id_is_the_same_one_wherever_it_is_moved(
    ana: Agent,
):
    await ana.sent(event(0))
    [stored] = await ana.events()
    assert await ana.sent(event(0), ids=[stored.event_id]) == (0, 1)
    assert await ana.sent(event(500), ids=[stored.event_id]) == (0, 1)
    assert await ana.events() == [stored]
    strange = str(uuid5(LAPTOP, "somebody else's"))
    assert await ana.sent(event(900), ids=[strange]) == (1, 0)


async def test_bad_events_are_told_apart_from_good_ones_and_duplicates(ana: Agent):
    await ana.sent(event(0))
    answer = await ana.append(
        event(0), {**event(5), "duration_us": -1}, event(10), {**event(15), "title": "a\0"}
    )
    assert (answer.accepted, answer.duplicates) == (1, 1)
    rejected = [(one.index, [error.field for error in one.errors]) for one in answer.rejected]
    assert rejected == [(1, ["duration"]), (3, ["title"])]
    assert await ana.count() == 2


async def test_nothing_good_means_nothing_stored(ana: Agent, replica: Replica):
    answer = await ana.append({**event(0), "flags": 3})
    assert (answer.accepted, answer.duplicates, len(answer.rejected)) == (0, 0, 1)
    assert await replica.announced() == []


async def test_old_data_makes_its_own_months(ana: Agent, replica: Replica):
    ancient = {**event(0), "start_us": YEAR_2000_US - SECOND_US}
    old = {**event(0), "start_us": 1_041_379_200 * SECOND_US}
    answer = await ana.append(ancient, old, event(0))
    assert (answer.accepted, [one.index for one in answer.rejected]) == (2, [0])
    assert await replica.partitions() == {"events_200301", "events_202601"}
    assert [one.start_us for one in await ana.events()] == [T0, old["start_us"]]


async def test_an_event_lies_in_the_month_of_its_first_instant(ana: Agent, replica: Replica):
    february = 1_769_904_000 * SECOND_US
    clock = replica.clock
    assert isinstance(clock, ManualClock)
    clock.advance(40 * 86_400)
    await ana.sent(
        {**event(0), "start_us": february - 1000, "duration_us": 9000},
        {**event(0), "start_us": february},
    )
    rows = await replica.fetch("SELECT tableoid::regclass::text AS name FROM events ORDER BY 1")
    assert [row["name"] for row in rows] == ["events_202601", "events_202602"]


async def test_a_month_that_another_replica_dropped_is_made_again(ana: Agent, replica: Replica):
    await ana.sent(event(0))
    await replica.fetch("SELECT events_drop_month('2026-01-01')")
    assert await ana.sent(event(5)) == (1, 0)
    assert await ana.count() == 1


async def test_two_replicas_make_one_month_together(make_replica: MakeReplica):
    replicas = [await make_replica() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for number, replica in enumerate(replicas):
            group.create_task(replica.agent().sent(event(number)))
    assert await replicas[0].partitions() == {"events_202601"}


async def test_one_append_that_the_database_refuses_does_not_fail_its_neighbours(
    ana: Agent, replica: Replica
):
    await ana.sent(event(-100))
    await replica.fetch("ALTER TABLE events ADD CONSTRAINT no_poison CHECK (title <> 'poison')")
    async with asyncio.TaskGroup() as group:
        good = [group.create_task(ana.sent(event(i))) for i in range(5)]
        bad = group.create_task(_failure(ana.sent(event(99, title="poison"))))
        more = group.create_task(ana.sent(event(50), event(51)))
    assert isinstance(bad.result(), asyncpg.CheckViolationError)
    assert [task.result() for task in good] == [(1, 0)] * 5
    assert more.result() == (2, 0)
    assert await ana.count() == 8


async def test_too_many_waiting_events_are_refused_with_a_time_to_come_back(
    ana: Agent, replica: Replica
):
    await ana.sent(event(-100))
    batches = [[event(i, title=f"{n}") for i in range(5000)] for n in range(4)]
    async with asyncio.TaskGroup() as group, blocked(replica):
        first = group.create_task(ana.sent(*batches[0]))
        await eventually(lambda: waiting_for_lock(replica))
        held = [group.create_task(ana.sent(*batch)) for batch in batches[1:3]]
        await eventually(lambda: replica.appends.waiting == 2)
        with pytest.raises(Exhausted) as refusal:
            await ana.sent(event(0, title="one too many"))
        assert refusal.value.retry_after_seconds > 0
    assert [task.result() for task in [first, *held]] == [(5000, 0)] * 3
    assert await ana.sent(event(0, title="one too many")) == (1, 0)


async def test_a_caller_that_gives_up_costs_its_neighbours_nothing(ana: Agent, replica: Replica):
    await ana.sent(event(-100))
    async with asyncio.TaskGroup() as group, blocked(replica):
        quitter = group.create_task(ana.sent(event(0)))
        stayer = group.create_task(ana.sent(event(1)))
        await eventually(lambda: waiting_for_lock(replica))
        quitter.cancel()
    assert quitter.cancelled()
    assert stayer.result() == (1, 0)
    # What the caller gave up on was kept, and is a duplicate when it comes again.
    assert await ana.sent(event(0)) == (0, 1)


async def test_a_lost_connection_is_survived_without_the_caller_noticing(
    ana: Agent, replica: Replica
):
    await ana.sent(event(-100))
    async with asyncio.TaskGroup() as group, blocked(replica):
        waiting = group.create_task(ana.sent(event(0)))
        await eventually(lambda: waiting_for_lock(replica))
        [pid] = await waiting_for_lock(replica)
        await replica.fetch("SELECT pg_terminate_backend($1)", pid)
    assert waiting.result() == (1, 0)
    assert await ana.count() == 2


async def test_what_waits_when_the_service_stops_is_still_committed(ana: Agent, replica: Replica):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ana.sent(event(i))) for i in range(5)]
        await eventually(lambda: replica.appends.waiting or all(task.done() for task in tasks))
        replica.stopping.set()
    assert [task.result() for task in tasks] == [(1, 0)] * 5


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"device": "laptop"}, "device_id"),
        ({"source": ""}, "source"),
        ({"source": "x" * 201}, "source"),
        ({"source": "a\0b"}, "source"),
        ({"ids": ["a", "b"]}, "client_ids"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_with_its_field_named(
    ana: Agent, change: dict[str, object], field: str
):
    with pytest.raises(Invalid) as refusal:
        await ana.append(event(0), **change)
    assert refusal.value.violations[0].field == field


async def _failure(doing: object) -> BaseException | None:
    try:
        await doing
    except Exception as error:  # noqa: BLE001  # the test looks at it
        return error
    return None
