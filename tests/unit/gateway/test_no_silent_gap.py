"""Promise P7 whatever happens: in order, without repeats, and never a gap that is not told."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway.payloads.live import parse_position
from tests.unit.gateway.live_world import ADA, Listening, LiveWorld, hub_on, settled

CHANNELS = {"me": f"user.{ADA}", "org": "org"}

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(list(CHANNELS.values())), st.integers(1, 3)),
        st.tuples(st.just("lose"), st.sampled_from(list(CHANNELS.values())), st.integers(1, 3)),
        st.tuples(st.just("flood"), st.sampled_from(list(CHANNELS.values())), st.just(150)),
        st.tuples(st.just("disconnect"), st.none(), st.none()),
        st.tuples(st.just("reconnect"), st.none(), st.none()),
        st.tuples(st.just("trim"), st.none(), st.none()),
        st.tuples(st.just("renew"), st.none(), st.none()),
        st.tuples(st.just("subscribe"), st.integers(0, 2), st.sampled_from(list(CHANNELS))),
        st.tuples(st.just("resume"), st.integers(0, 2), st.sampled_from(list(CHANNELS))),
        st.tuples(st.just("pause"), st.none(), st.none()),
    ),
    max_size=30,
)


class Client(Listening):
    """Remembers, for each channel, where it stands, as a real client would."""

    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        self.positions: dict[str, str] = {}

    def read(self) -> None:
        known = len(self.frames)
        super().read()
        for frame in self.frames[known:]:
            if "position" in frame:
                self.positions[frame["channel"]] = frame["position"]


async def act(world: LiveWorld, clients: list[Client], step: tuple[str, Any, Any]) -> None:
    kind, first, second = step
    if kind in {"publish", "flood", "lose"}:
        for _ in range(second):
            await world.publish(first, world.offset + 1, is_lost=kind == "lose")
    elif kind in {"subscribe", "resume"}:
        client = clients[first]
        since = client.positions.get(second) if kind == "resume" else None
        position = parse_position(since) if since else None
        await client.hub.subscribe(client.seat, CHANNELS[second], position)
    elif kind == "trim":
        # A window that closes within seconds of a loss is not what realtime keeps.
        if world.is_connected:
            await world.tell_everybody()
            await settled(most=100)
        world.trim()
    elif kind == "pause":
        await settled(most=100)
    else:
        world.is_connected = kind != "disconnect"
        if kind == "reconnect":
            await world.tell_everybody()
        elif kind == "renew":
            await world.renew()


async def play(steps: list[tuple[str, Any, Any]]) -> None:
    world = LiveWorld()
    hub = hub_on(world)
    history: dict[tuple[str, str], list[int]] = {}
    publish = world.publish

    async def noted(channel: str, data: Any, **more: Any) -> int:
        # Before it is sent, since sending lets the clients hear it.
        history.setdefault((world.epoch, channel), []).append(world.offset + 1)
        return await publish(channel, data, **more)

    world.publish = noted  # type: ignore[method-assign]
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hub.run(stopping))
        await settled(most=5)
        clients = [Client(hub) for _ in range(3)]
        for client in clients:
            await client.enter()
        for step in steps:
            await act(world, clients, step)
        world.is_connected = True
        await world.tell_everybody()
        await settled()
        for client in clients:
            for channel, name in CHANNELS.items():
                if name in client.seat.listeners:
                    heard = history.get((world.epoch, name), [])
                    assert_no_silent_gap(client, channel, name, history, heard)
            assert client.farewell is None
            hub.leave(client.seat)
        stopping.set()


def assert_no_silent_gap(
    client: Client,
    channel: str,
    name: str,
    history: dict[tuple[str, str], list[int]],
    last: list[int],
) -> None:
    """Each message is the one after the position before it; only `subscribed` may move that."""
    epoch, offset = "", 0
    for frame in client.frames:
        if frame.get("channel") != channel:
            continue
        given, _, number = frame["position"].partition(":")
        if frame["type"] == "message":
            following = [n for n in history[given, name] if n > offset]
            assert (given, int(number)) == (epoch, following[0]), client.frames
            assert frame["data"] == int(number)
        epoch, offset = given, int(number)
    assert not [n for n in last if n > offset], "the end was reached"


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(STEPS)
def test_every_client_hears_all_in_order_or_is_told(steps: list[tuple[str, Any, Any]]) -> None:
    asyncio.run(play(steps))
