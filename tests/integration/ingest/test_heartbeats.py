"""Heartbeats on a real database (time-tracking-peers §2.4 and §4.1)."""

import asyncio

import pytest

from chassis.clock import ManualClock
from chassis.errors import Invalid
from services.ingest.domain.admission import AHEAD_US
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
    event,
    spans,
)


async def test_the_golden_sequence_of_activitywatch(ana: Agent):
    first = await ana.beat(0)
    assert (first.duration_us, first.app) == (0, "Firefox")
    assert (await ana.beat(5)).duration_us == 5 * SECOND_US
    # Exactly the pulse time away, once microseconds are cut off.
    edge = await ana.beat(10.000999)
    assert (edge.event_id, edge.duration_us) == (first.event_id, 10 * SECOND_US)
    second = await ana.beat(15.002)
    assert second.event_id != first.event_id
    assert (second.start_us, second.duration_us) == (T0 + 15_002_000, 0)
    # ActivityWatch makes an overlapping third event of this one.
    late = await ana.beat(14)
    assert late.event_id == first.event_id
    assert spans(await ana.events()) == [(15.002, 0), (0, 15.002)]


@pytest.mark.parametrize(
    ("last", "beat", "pulse", "expected"),
    [
        ((0, 1), (3, 0), 2, [(0, 3)]),
        ((0, 1), (3.001, 0), 2, [(3.001, 0), (0, 1)]),
        ((0, 10), (3, 1), 0, [(0, 10)]),
        ((0, 10), (9, 5), 0, [(0, 14)]),
        ((0, 0), (0, 1), 0, [(0, 1)]),
        ((0, 1), (0, 0), 0, [(0, 1)]),
        ((0, 1), (2, 1), 2, [(0, 3)]),
        ((0, 1), (120, 0), 120, [(0, 120)]),
        ((0, 1), (120, 0), 60, [(120, 0), (0, 1)]),
    ],
)
async def test_the_vectors_of_activitywatch(
    ana: Agent,
    last: tuple[float, float],
    beat: tuple[float, float],
    pulse: float,
    expected: list[tuple[float, float]],
):
    await ana.beat(*last, pulse=pulse)
    await ana.beat(*beat, pulse=pulse)
    assert spans(await ana.events()) == expected


async def test_other_content_is_another_event(ana: Agent):
    await ana.beat(0)
    for number, said in enumerate(
        [{"app": "Code"}, {"title": "x"}, {"data_json": '{"audible":true}'}, {"flags": 2}], start=1
    ):
        await ana.beat(number, **said)
        await ana.beat(number, 0.5, **said)
    assert await ana.count() == 5


async def test_data_is_compared_by_meaning(ana: Agent):
    await ana.beat(0, data_json='{"a": 1, "b": [1.0]}')
    await ana.beat(3, data_json='{"b":[1],"a":1}')
    assert spans(await ana.events()) == [(0, 3)]


async def test_a_heartbeat_sent_again_changes_nothing(ana: Agent, replica: Replica):
    beats = [(0, 2), (2, 3), (60, 0), (61, 4)]
    for beat in beats:
        await ana.beat(*beat)
    events, told = await ana.events(), len(await replica.announced())
    for beat in beats:
        await ana.beat(*beat)
    assert await ana.events() == events
    assert len(await replica.announced()) == told


async def test_buckets_do_not_mix(ana: Agent):
    await ana.beat(0)
    await ana.beat(1, source="other")
    await ana.beat(1, device=PHONE)
    await ana.beat(2)
    assert sorted(spans(await ana.events())) == [(0, 2), (1, 0), (1, 0)]


async def test_a_heartbeat_joins_an_event_that_was_appended(ana: Agent):
    await ana.sent(event(0, 5, flags=0))
    assert (await ana.beat(7, 3)).duration_us == 10 * SECOND_US
    assert await ana.count() == 1


async def test_parallel_heartbeats_become_one_event(make_replica: MakeReplica):
    agents = [(await make_replica()).agent() for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        for second in range(40):
            group.create_task(agents[second % 2].beat(second))
    events = await agents[0].events()
    # Late ones reach forward to their neighbours, so not a second is missing or double.
    ordered = sorted(spans(events))
    assert ordered[0][0] == 0
    assert sum(duration for _, duration in ordered) == 39


async def test_a_removed_event_is_not_revived_by_its_heartbeat(ana: Agent, replica: Replica):
    stored = await ana.beat(0, 5)
    await ana.delete(stored.event_id)
    told = len(await replica.announced())
    answer = await ana.beat(0, 5)
    assert (answer.event_id, answer.duration_us) == (stored.event_id, 5 * SECOND_US)
    assert await ana.events() == []
    assert len(await replica.announced()) == told
    assert (await ana.beat(6)).event_id != stored.event_id


async def test_heartbeats_in_the_month_after_join_those_before(ana: Agent, clock: ManualClock):
    clock.advance(30 * 86_400)
    month_end = (1_769_904_000 * SECOND_US - T0) / SECOND_US
    await ana.beat(month_end - 2)
    await ana.beat(month_end + 1)
    assert spans(await ana.events()) == [(month_end - 2, 3)]


async def test_an_end_ahead_of_the_clock_is_clamped_and_catches_up(ana: Agent, clock: ManualClock):
    now = (NOW - T0) / SECOND_US
    first = await ana.beat(now, 3600)
    assert (first.duration_us, first.flags) == (AHEAD_US, CLAMPED)
    clock.advance(600)
    assert (await ana.beat(now, 3600)) == first
    grown = await ana.beat(now + 600, 3001)
    assert (grown.event_id, grown.duration_us) == (first.event_id, 600 * SECOND_US + AHEAD_US)
    clock.advance(7200)
    done = await ana.beat(now + 3601, 1)
    assert (done.duration_us, done.flags) == (3602 * SECOND_US, 0)


async def test_a_heartbeat_that_can_not_be_kept_names_the_field(ana: Agent):
    for change, field in [
        ({"duration": -1}, "duration"),
        ({"title": "\0"}, "title"),
        ({"pulse": -1}, "pulsetime"),
        ({"start": 2 * 86_400}, "start"),
        ({"source": ""}, "source"),
    ]:
        with pytest.raises(Invalid) as refusal:
            await ana.beat(**{"start": 0, **change})
        assert refusal.value.violations[0].field == field
    assert await ana.count() == 0


async def test_every_change_is_announced(ana: Agent, replica: Replica):
    for second in range(5):
        await ana.beat(second)
    ends = [
        activity.events.start_us[0] + activity.events.duration_us[0]
        for message in await replica.announced()
        for activity in message.activity
    ]
    assert ends == [T0 + second * SECOND_US for second in range(5)]
    assert str(LAPTOP) == (await replica.announced())[0].activity[0].device_id
