"""The fan-out: who hears what, in order, without gaps or repeats (promises P7 and P8)."""

from typing import Any

import msgspec
import pytest

from chassis.clock import MICROSECONDS, ManualClock
from chassis.errors import Exhausted, Forbidden, Unavailable
from services.gateway.hub import (
    CHECK_SECONDS,
    MAX_CONNECTIONS_PER_USER,
    MAX_SUBSCRIPTIONS,
    Hub,
)
from services.gateway.payloads.live import Position
from tests.support.eventually import eventually
from tests.unit.gateway.live_world import (
    ADA,
    BEN,
    KEY,
    ORG,
    OTHER_KEY,
    OTHER_ORG,
    Listening,
    LiveWorld,
    frames_of,
    settled,
)

ME = f"user.{ADA}"


async def listening(
    hub: Hub, channel: str = ME, since: Position | None = None, **who: Any
) -> Listening:
    client = await Listening(hub, **who).enter()
    await hub.subscribe(client.seat, channel, since)
    await settled()
    return client


async def test_a_message_reaches_everyone_on_its_channel_once(hub: Hub, world: LiveWorld) -> None:
    ada, again = await listening(hub), await listening(hub)
    ben = await listening(hub, f"user.{BEN}", user_id=BEN)
    await world.publish(ME, {"n": 1})
    await settled()
    assert ada.data() == again.data() == [{"n": 1}]
    assert ben.data() == []
    assert ada.texts[-1] is again.texts[-1], "serialized once, shared by both"


async def test_the_first_frame_says_where_the_client_stands(hub: Hub, world: LiveWorld) -> None:
    await world.publish(ME, {})
    ada = await listening(hub)
    assert ada.frames == [
        {"type": "subscribed", "channel": "me", "position": "e1:1", "recovered": True}
    ]
    await world.publish(ME, {"s": "ü\n"}, event="day.updated")
    assert ada.frames[-1] == {
        "type": "message",
        "channel": "me",
        "position": "e1:2",
        "event": "day.updated",
        "data": {"s": "ü\n"},
        "at": "1970-01-01T00:00:01Z",
    }


async def test_organizations_never_meet(hub: Hub, world: LiveWorld) -> None:
    here = await listening(hub, "org")
    there = await listening(hub, "org", org_id=OTHER_ORG)
    await world.publish("org", {"n": 1}, org=OTHER_ORG)
    await settled()
    assert (here.data(), there.data()) == ([], [{"n": 1}])


async def test_a_resuming_client_gets_what_it_missed_and_then_what_is_new(
    hub: Hub, world: LiveWorld
) -> None:
    for n in range(1, 4):
        await world.publish(ME, n)
    ada = await listening(hub, since=Position("e1", 1))
    await world.publish(ME, 4)
    await settled()
    assert frames_of(ada.frames, "subscribed") == [
        {"type": "subscribed", "channel": "me", "position": "e1:1", "recovered": True}
    ]
    assert ada.data() == [2, 3, 4]


async def test_a_long_replay_comes_in_pages_without_overflowing(hub: Hub, world: LiveWorld) -> None:
    for n in range(1, 701):
        await world.publish(ME, n)
    client = await Listening(hub).enter()
    await hub.subscribe(client.seat, ME, Position("e1", 0))
    await world.publish(ME, 701)
    await eventually(lambda: len(client.data()) == 701)
    assert client.data() == list(range(1, 702))
    assert client.farewell is None


async def test_a_client_from_before_the_window_is_told_to_reload(
    hub: Hub, world: LiveWorld
) -> None:
    await world.publish(ME, 1)
    await world.publish(ME, 2)
    world.trim()
    ada = await listening(hub, since=Position("e1", 1))
    stranger = await listening(hub, since=Position("another life", 1))
    for client in (ada, stranger):
        assert client.frames == [
            {"type": "subscribed", "channel": "me", "position": "e1:2", "recovered": False}
        ]


async def test_what_arrives_while_history_is_asked_is_neither_lost_nor_repeated(
    hub: Hub, world: LiveWorld
) -> None:
    await world.publish(ME, 1)
    client = await Listening(hub).enter()
    asking = hub.subscribe(client.seat, ME, Position("e1", 0))
    hub.spawn(asking)
    while not world.asked or world.asked[-1][1].channel != ME:
        await settled(most=1)
    await world.publish(ME, 2)
    await settled()
    await world.publish(ME, 3)
    await settled()
    assert client.data() == [1, 2, 3]


async def test_a_lost_message_is_noticed_by_the_next_and_fetched_for_all(
    hub: Hub, world: LiveWorld
) -> None:
    clients = [await listening(hub) for _ in range(3)]
    await world.publish(ME, 1)
    await world.publish(ME, 2, is_lost=True)
    world.asked.clear()
    await world.publish(ME, 3)
    await settled()
    assert [client.data() for client in clients] == [[1, 2, 3]] * 3
    assert len(world.asked) == 1, "once for all sockets"


async def test_what_was_lost_around_a_reconnect_comes_without_another_message(
    hub: Hub, world: LiveWorld
) -> None:
    ada = await listening(hub)
    world.is_connected = False
    await world.publish(ME, 1)
    await world.publish(ME, 2)
    world.is_connected = True
    world.generation += 1
    await eventually(lambda: ada.data() == [1, 2])


async def test_a_gap_that_history_cannot_fill_is_told(hub: Hub, world: LiveWorld) -> None:
    ada = await listening(hub)
    await world.publish(ME, 1)
    await world.publish(ME, 2, is_lost=True)
    world.trim()
    world.generation += 1
    await eventually(lambda: frames_of(ada.frames, "subscribed")[1:])
    assert frames_of(ada.frames, "subscribed")[1] == {
        "type": "subscribed",
        "channel": "me",
        "position": "e1:2",
        "recovered": False,
    }
    await world.publish(ME, 3)
    await settled()
    assert ada.data() == [1, 3]


async def test_a_loss_that_nothing_follows_is_found_while_history_still_knows(
    hub: Hub, world: LiveWorld, clock: ManualClock
) -> None:
    ada = await listening(hub)
    hub.look_after()
    await world.publish(ME, 1, is_lost=True)
    clock.advance(CHECK_SECONDS - 1)
    hub.look_after()
    await settled()
    assert ada.data() == []
    clock.advance(1)
    hub.look_after()
    await settled()
    assert ada.data() == [1]


async def test_a_credential_that_ends_is_warned_about_and_then_enough(
    hub: Hub, clock: ManualClock
) -> None:
    ends = clock.now_us() + 60 * MICROSECONDS
    ada = await Listening(hub, expires_at_us=ends).enter()
    hub.look_after()
    assert ada.frames == []
    clock.advance(30)
    hub.look_after()
    hub.look_after()
    assert [frame["code"] for frame in ada.frames] == ["token_expiring"]
    clock.advance(40)
    hub.look_after()
    assert ada.farewell is None
    clock.advance(1)
    hub.look_after()
    assert ada.farewell == 3005


async def test_a_new_life_of_the_stream_is_told_and_live_goes_on(
    hub: Hub, world: LiveWorld
) -> None:
    ada = await listening(hub)
    await world.publish(ME, 1)
    await world.renew()
    await settled()
    await world.publish(ME, 2)
    await settled()
    assert [frame.get("recovered") for frame in ada.frames if frame["type"] == "subscribed"] == [
        True,
        False,
    ]
    assert ada.data() == [1, 2]
    assert ada.frames[-1]["position"] == "e2:1"


async def test_while_history_is_away_nothing_is_passed_over_the_gap(
    hub: Hub, world: LiveWorld
) -> None:
    ada = await listening(hub)
    await world.publish(ME, 1)
    await world.publish(ME, 2, is_lost=True)
    world.is_away = True
    for n in range(3, 400):
        await world.publish(ME, n)
    await settled()
    assert ada.data() == [1]
    world.is_away = False
    await eventually(lambda: len(ada.data()) == 399)
    assert ada.data() == list(range(1, 400))


async def test_a_history_that_lags_behind_the_bus_makes_no_gap(hub: Hub, world: LiveWorld) -> None:
    await listening(hub)
    for n in range(1, 5):
        await world.publish(ME, n)
    world.lag = 3
    late = await Listening(hub).enter()
    await hub.subscribe(late.seat, ME, Position("e1", 0))
    await settled()
    await world.publish(ME, 5)
    world.lag = 0
    await eventually(lambda: len(late.data()) == 5)
    assert late.data() == [1, 2, 3, 4, 5]


async def test_a_channel_that_is_not_theirs_is_refused_and_leaves_nothing_behind(
    hub: Hub, world: LiveWorld
) -> None:
    member = await Listening(hub, role="member").enter()
    with pytest.raises(Forbidden):
        await hub.subscribe(member.seat, "org", None)
    assert member.seat.listeners == {}
    await world.publish("org", 1)
    await settled()
    assert member.frames == []


async def test_a_new_role_ends_what_it_does_not_allow(hub: Hub, world: LiveWorld) -> None:
    manager = await listening(hub, "org", role="manager")
    await hub.subscribe(manager.seat, ME, None)
    await world.publish("ctl", {"user_id": ADA, "role": "member"}, event="member.changed")
    await settled()
    errors = frames_of(manager.frames, "error")
    assert [(e["code"], e["channel"]) for e in errors] == [("forbidden", "org")]
    await world.publish("org", "secret")
    await world.publish(ME, "mine")
    await settled()
    assert manager.data() == ["mine"]


@pytest.mark.parametrize(
    ("order", "gone"),
    [
        ({"user_id": ADA, "credential_id": KEY, "reason": "revoked"}, ["ada 1"]),
        ({"user_id": ADA, "credential_id": None, "reason": "suspended"}, ["ada 1", "ada 2"]),
        ({"user_id": None, "credential_id": None}, ["ada 1", "ada 2", "ben"]),
    ],
)
async def test_those_who_must_go_are_sent_away(
    hub: Hub, world: LiveWorld, order: dict[str, Any], gone: list[str]
) -> None:
    clients = {
        "ada 1": await listening(hub, credential_id=KEY),
        "ada 2": await listening(hub, credential_id=OTHER_KEY),
        "ben": await listening(hub, f"user.{BEN}", user_id=BEN),
        "elsewhere": await listening(hub, org_id=OTHER_ORG),
    }
    await world.publish("ctl", order, event="disconnect")
    await settled()
    assert [name for name, client in clients.items() if client.farewell == 3503] == gone
    assert [name for name, client in clients.items() if client.farewell] == gone


async def test_when_a_revocation_may_be_lost_everybody_is_looked_up_again(
    hub: Hub, world: LiveWorld
) -> None:
    revoked = await listening(hub, credential_id=OTHER_KEY)
    demoted = await listening(hub, "org", user_id=BEN)
    good = await listening(hub)
    world.revoked.add(OTHER_KEY)
    world.roles[BEN] = "member"
    await world.renew()
    await eventually(lambda: revoked.farewell == 3503)
    await eventually(lambda: frames_of(demoted.frames, "error"))
    await world.publish("org", 1)
    await world.publish(ME, 2)
    await settled()
    assert (good.farewell, good.data()) == (None, [2])
    assert demoted.data() == []


async def test_those_who_cannot_be_looked_up_come_back_later(hub: Hub, world: LiveWorld) -> None:
    ada = await listening(hub)
    world.accounts_are_away = True
    await world.renew()
    await settled()
    assert ada.farewell == 3010
    assert ada.seat.mailbox.farewell is not None
    assert ada.seat.mailbox.farewell.reconnect


async def test_a_socket_that_does_not_read_is_sent_away_and_holds_nobody_up(
    hub: Hub, world: LiveWorld
) -> None:
    slow, quick = await listening(hub), await listening(hub)
    slow.is_reading = False
    for n in range(300):
        await world.publish(ME, n)
    await settled()
    assert slow.farewell == 3008
    assert quick.data() == list(range(300))
    assert quick.farewell is None


async def test_one_subscription_serves_an_organization_until_the_last_socket_leaves(
    hub: Hub, world: LiveWorld
) -> None:
    before = len(world.subscriptions)
    clients = [await listening(hub) for _ in range(3)]
    assert [s.subject for s in world.subscriptions[before:]] == [f"rt.v1.{ORG}.>"]
    for client in clients:
        hub.leave(client.seat)
    await settled()
    assert len(world.subscriptions) == before
    assert hub.seats == []


async def test_after_unsubscribing_nothing_comes(hub: Hub, world: LiveWorld) -> None:
    ada = await listening(hub)
    hub.unsubscribe(ada.seat, ME)
    hub.unsubscribe(ada.seat, "jobs")
    await world.publish(ME, 1)
    await settled()
    assert ada.data() == []


async def test_subscribing_again_starts_anew_from_there(hub: Hub, world: LiveWorld) -> None:
    ada = await listening(hub)
    await world.publish(ME, 1)
    await hub.subscribe(ada.seat, ME, Position("e1", 0))
    await settled()
    await world.publish(ME, 2)
    await settled()
    assert ada.data() == [1, 1, 2]


async def test_limits_of_connections_and_subscriptions(hub: Hub) -> None:
    ada = await Listening(hub).enter()
    for _ in range(MAX_CONNECTIONS_PER_USER - 1):
        await Listening(hub).enter()
    with pytest.raises(Exhausted):
        await Listening(hub).enter()
    await Listening(hub, user_id=BEN).enter()
    for n in range(MAX_SUBSCRIPTIONS):
        ada.seat.listeners[f"space.{n}"] = None  # type: ignore[assignment]  # only counted
    with pytest.raises(Exhausted):
        await hub.subscribe(ada.seat, "org", None)
    ada.seat.listeners.clear()


async def test_nobody_enters_when_the_bus_is_away(hub: Hub, world: LiveWorld) -> None:
    world.is_connected = False
    with pytest.raises(Unavailable):
        await Listening(hub).enter()
    assert hub.seats == []


async def test_what_is_not_understood_on_the_bus_is_made_good(hub: Hub, world: LiveWorld) -> None:
    ada = await listening(hub)
    offset = await world.publish(ME, 1, is_lost=True)
    with pytest.raises(KeyError):
        await world.deliver(f"rt.v1.{ORG}.{ME}", b"", {"Nats-Last-Sequence": str(offset)})
    await world.publish(ME, 2)
    await settled()
    assert ada.data() == [1, 2]


def test_frames_are_json_on_one_line() -> None:
    frame = msgspec.json.encode({"a": "b\nc"})
    assert b"\n" not in frame
