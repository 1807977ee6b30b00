"""Replacing and removing events: identities stay taken, retries revive nothing."""

from typing import Any

import pytest

from chassis.errors import Invalid, NotFound
from services.ingest.domain.columns import REMOVED
from tests.integration.ingest.conftest import (
    PHONE,
    SECOND_US,
    T0,
    Agent,
    Replica,
    event,
    some_id,
    spans,
)

MONTHS = 90 * 86_400


async def told(replica: Replica) -> list[tuple[float, float, int, int, str]]:
    """Every announced event: start, duration, flags, revision, app."""
    found = []
    for message in await replica.announced():
        for activity in message.activity:
            events = activity.events
            zeros, blanks = [0] * len(events.start_us), [""] * len(events.start_us)
            rows = zip(
                events.start_us,
                events.duration_us,
                events.flags or zeros,
                events.revision or zeros,
                events.app or blanks,
                strict=True,
            )
            found += [((s - T0) / SECOND_US, d / SECOND_US, f, r, a) for s, d, f, r, a in rows]
    return found


async def the_one(agent: Agent) -> Any:
    [stored] = await agent.events()
    return stored


async def test_a_removed_event_leaves_a_tombstone_that_keeps_its_identity(
    ana: Agent, replica: Replica
):
    await ana.sent(event(0, title="secret"))
    stored = await the_one(ana)
    assert await ana.delete(stored.event_id)
    assert not await ana.delete(stored.event_id)
    assert await ana.events() == []
    assert (await told(replica))[1:] == [(0, 5, 1 | REMOVED, 1, "")]
    [row] = await replica.fetch("SELECT app, title, revision, removed_at FROM events")
    assert (row["app"], row["title"], row["revision"]) == ("", "", 1)
    assert row["removed_at"] is not None
    assert await ana.sent(event(0, title="secret"), event(0, 60, title="secret")) == (0, 2)
    assert await ana.events() == []


async def test_one_id_on_two_devices_is_removed_from_both(ana: Agent):
    name = some_id()
    await ana.sent(event(0), ids=[name])
    await ana.sent(event(0), ids=[name], device=PHONE)
    assert await ana.delete(name)
    assert await ana.events() == []


async def test_removing_what_is_not_there_changes_nothing(ana: Agent, replica: Replica):
    assert not await ana.delete(some_id())
    assert await replica.announced() == []
    with pytest.raises(Invalid, match="event_id"):
        await ana.delete("7")


async def test_replaced_content_stays_whatever_is_sent_again(ana: Agent, replica: Replica):
    await ana.sent(event(0, app="Firefox"))
    stored = await the_one(ana)
    replaced = await ana.replace(stored.event_id, event(0, 8, app="Code", flags=2))
    assert (replaced.event_id, replaced.app, replaced.duration_us, replaced.flags) == (
        stored.event_id,
        "Code",
        8 * SECOND_US,
        2,
    )
    assert replaced.received_us == stored.received_us
    assert (await told(replica))[1:] == [(0, 8, 2, 1, "Code")]
    assert await ana.sent(event(0, 60, app="Firefox")) == (0, 1)
    assert await ana.events() == [replaced]


async def test_replacing_with_the_same_changes_nothing(ana: Agent, replica: Replica):
    await ana.sent(event(0))
    stored = await the_one(ana)
    assert await ana.replace(stored.event_id, event(0)) == stored
    await ana.replace(stored.event_id, event(0, 9))
    await ana.replace(stored.event_id, event(0, 9))
    assert [revision for *_, revision, _ in await told(replica)] == [0, 1]


@pytest.mark.parametrize("days", [0.01, -MONTHS / 86_400])
@pytest.mark.parametrize("name", ["", "row 1"])
async def test_a_moved_event_is_gone_from_where_it_was_and_can_move_back(
    ana: Agent, replica: Replica, days: float, name: str
):
    there = days * 86_400
    await ana.sent(event(0), ids=[name])
    stored = await the_one(ana)
    moved = await ana.replace(stored.event_id, event(there, app="Code"))
    assert moved.event_id == stored.event_id
    assert spans(await ana.events()) == [(there, 5)]
    assert (await told(replica))[1:] == [(0, 5, 1 | REMOVED, 1, ""), (there, 5, 1, 1, "Code")]
    assert await ana.sent(event(0), ids=[name]) == (0, 1)
    assert await ana.sent(event(there), ids=[stored.event_id]) == (0, 1)
    await ana.replace(stored.event_id, event(0, app="Vim"))
    assert [(one.app, one.start_us) for one in await ana.events()] == [("Vim", T0)]
    assert (await told(replica))[3:] == [(there, 5, 1 | REMOVED, 2, ""), (0, 5, 1, 2, "Vim")]
    assert await ana.delete(stored.event_id)
    assert (await told(replica))[5:] == [(0, 5, 1 | REMOVED, 3, "")]


async def test_only_a_known_event_of_that_bucket_can_be_replaced(ana: Agent):
    await ana.sent(event(0))
    stored = await the_one(ana)
    for event_id, source in [(some_id(), "aw-watcher-window_laptop"), (stored.event_id, "other")]:
        with pytest.raises(NotFound):
            await ana.replace(event_id, event(0, 9), source=source)
    await ana.delete(stored.event_id)
    with pytest.raises(NotFound):
        await ana.replace(stored.event_id, event(0, 9))


async def test_a_replacement_that_can_not_be_kept_changes_nothing(ana: Agent):
    await ana.sent(event(0))
    stored = await the_one(ana)
    with pytest.raises(Invalid) as refusal:
        await ana.replace(stored.event_id, {**event(0), "duration_us": -1})
    assert [violation.field for violation in refusal.value.violations] == ["duration"]
    assert await ana.events() == [stored]


async def test_a_heartbeat_goes_on_from_a_replaced_event(ana: Agent):
    first = await ana.beat(0, 5)
    await ana.replace(first.event_id, event(0, 5, app="Code", flags=0))
    grown = await ana.beat(8, app="Code")
    assert (grown.event_id, grown.duration_us) == (first.event_id, 8 * SECOND_US)
