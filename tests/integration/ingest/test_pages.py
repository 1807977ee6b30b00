"""Lists and counts: ranges, filters, cursors."""

import random
from uuid import UUID

import pytest

from chassis.errors import Invalid
from services.ingest.store import pages
from tests.integration.ingest.conftest import (
    LAPTOP,
    PHONE,
    T0,
    Agent,
    Replica,
    event,
    some_id,
    spans,
)

HOUR, DAY = 3600.0, 86_400.0


async def test_events_come_newest_first_in_pages_that_miss_and_repeat_none(ana: Agent):
    dice = random.Random(3)
    events = [event(dice.randrange(40), 1, title=f"{n}") for n in range(120)]
    await ana.sent(*events)
    await ana.sent(*events[:30], device=PHONE)
    whole = await ana.events()
    assert len(whole) == 150
    order = [(one.start_us, one.event_id, one.device_id) for one in whole]
    assert order == sorted(order, reverse=True)
    for limit in (1, 7, 50, 149, 150):
        found, cursor = [], ""
        while True:
            page = await ana.page(cursor=cursor, limit=limit)
            found += page.events
            cursor = page.page.next_cursor
            if not cursor:
                break
            assert len(page.events) == limit
        assert found == whole


async def test_events_that_arrive_between_pages_do_not_disturb_them(ana: Agent):
    await ana.sent(*[event(i) for i in range(10)])
    first = await ana.page(limit=5)
    await ana.sent(*[event(100 + i) for i in range(10)])
    second = await ana.page(limit=50, cursor=first.page.next_cursor)
    assert [start for start, _ in spans([*first.events, *second.events])] == list(range(9, -1, -1))


async def test_a_page_has_50_events_unless_asked_otherwise(ana: Agent):
    await ana.sent(*[event(i) for i in range(60)])
    page = await ana.page()
    assert (len(page.events), bool(page.page.next_cursor)) == (50, True)
    assert len(await ana.events()) == 60


async def test_a_range_finds_what_overlaps_it_however_long(ana: Agent):
    lengths = [0, 1, HOUR, HOUR + 1, 5 * HOUR, DAY, 20 * DAY, 31 * DAY]
    spread = [
        event(-start, length, title=f"{start}/{length}")
        for start in (0, 1, HOUR, HOUR + 1, 3 * HOUR, DAY, 19 * DAY, 30 * DAY, 32 * DAY)
        for length in lengths
        if length - start < HOUR
    ]
    await ana.sent(*spread)
    everything = await ana.events()
    for start, end in [
        (0, 1),
        (-1, 0),
        (-HOUR, -HOUR + 1),
        (-2 * DAY, -DAY),
        (-40 * DAY, 1),
        (0, 0),
    ]:
        expected = [
            one
            for one, (at, length) in zip(everything, spans(everything), strict=True)
            if at < end and (at >= start or at + length > start)
        ]
        assert await ana.events(span=(start, end)) == expected
        assert await ana.count(span=(start, end)) == len(expected)
        bucket = {"device_id": str(LAPTOP), "source": "aw-watcher-window_laptop"}
        assert await ana.events(span=(start, end), **bucket) == expected
        assert await ana.count(span=(start, end), **bucket) == len(expected)
        found, cursor = [], ""
        while page := await ana.page(span=(start, end), limit=3, cursor=cursor):
            found += page.events
            cursor = page.page.next_cursor
            if not cursor:
                break
        assert found == expected


async def test_filters_narrow_lists_and_counts(ana: Agent):
    for device in (LAPTOP, PHONE):
        for source in ("a", "b"):
            await ana.sent(event(0), event(5), device=device, source=source)
    for wanted, count in [
        ({}, 8),
        ({"device_id": str(PHONE)}, 4),
        ({"source": "b"}, 4),
        ({"device_id": str(PHONE), "source": "b"}, 2),
        ({"device_id": str(PHONE), "source": "c"}, 0),
    ]:
        found = await ana.events(**wanted)
        assert len(found) == count == await ana.count(**wanted)
        for one in found:
            assert all(getattr(one, name) == value for name, value in wanted.items())


async def test_an_event_is_found_by_its_id_and_by_the_first_52_bits_of_it(ana: Agent):
    name = UUID(some_id())
    near = UUID(int=name.int ^ 1)
    await ana.sent(event(0), event(5), event(10), ids=[str(name), str(near), ""])
    [found] = await ana.events(event_id=str(name))
    assert found.event_id == str(name)
    assert len(await ana.events(event_id_prefix52=name.int >> 76)) == 2
    assert await ana.events(event_id_prefix52=(name.int >> 76) + 1) == []
    assert await ana.events(event_id=str(name), source="other") == []
    assert await ana.events(event_id=str(name), span=(100, 200)) == []
    await ana.delete(str(name))
    assert await ana.events(event_id=str(name)) == []


async def test_a_page_stops_before_it_outgrows_a_message(ana: Agent):
    large = '{"a":"' + "x" * 65_000 + '"}'
    await ana.sent(*[event(i, data_json=large) for i in range(100)])
    found, cursor, sizes = [], "", []
    while True:
        page = await ana.page(limit=100, cursor=cursor)
        found += page.events
        sizes.append(len(page.events))
        cursor = page.page.next_cursor
        if not cursor:
            break
    assert sizes == [47, 47, 6]
    assert len({one.event_id for one in found}) == 100


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"cursor": "AAAA"}, "cursor"),
        ({"span": (5, 4)}, "to"),
        ({"device_id": "x"}, "device_id"),
        ({"source": "a\0"}, "source"),
        ({"event_id": "x"}, "event_id"),
        ({"event_id_prefix52": 2**52}, "event_id"),
    ],
)
async def test_nonsense_is_refused_with_its_field_named(
    ana: Agent, request_: dict[str, object], field: str
):
    with pytest.raises(Invalid) as refusal:
        await ana.page(**request_)
    assert refusal.value.violations[0].field == field


async def test_a_range_may_lie_anywhere_in_time(ana: Agent):
    await ana.sent(event(0))
    assert len(await ana.events(span=(-(2**40), 2**40))) == 1
    assert await ana.events(span=(-(2**40), -(2**39))) == []
    assert await ana.events(span=(2**39, 2**40)) == []


async def test_lists_read_only_the_months_they_ask_about(ana: Agent, replica: Replica):
    month = 31 * DAY
    await ana.sent(*[event(-number * month) for number in range(24)])
    plan = await replica.fetch(
        "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) " + _literal(pages.LIST_OF_USER)
    )
    text = "\n".join(row[0] for row in plan)
    touched = [line for line in text.splitlines() if "Scan" in line and "never" not in line]
    assert 0 < len(touched) <= 6, text


def _literal(query: str) -> str:
    """The query with an hour two days ago for its arguments; EXPLAIN takes none."""
    values = {
        "$1": "'00000000-0000-0000-0000-000000000ace'::uuid",
        "$2": "'00000000-0000-0000-0000-00000000000a'::uuid",
        "$3": f"{T0}::bigint",
        "$4": f"{T0 + 3_600_000_000}::bigint",
        "$5": "'00000000-0000-0000-0000-000000000000'::uuid",
        "$6": "'00000000-0000-0000-0000-000000000000'::uuid",
        "$7": "50",
        "$8::uuid": "NULL::uuid",
        "$9::text": "NULL::text",
        "$8": "NULL",
        "$9": "NULL",
    }
    for name, value in values.items():
        query = query.replace(name, value)
    return query
