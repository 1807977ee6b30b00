"""Promise P7 under fire: whatever is killed, a screen ends up showing what there is, or was told.

Each event becomes a session of its own, which changes never again: one lost message is one session
that the screen does not show.
"""

import asyncio
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any

import httpx
import pytest

from tests.support.eventually import eventually, lasting
from tests.support.people import Person, event
from tests.support.screen import Screen
from tests.support.servers import Suite

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

# Further apart than a session spans, over the days before NOON that a person's list covers.
APART_SECONDS = 600
FIRST_SECONDS = -2 * 86_400
MOST_AHEAD = 20


async def keep_working(person: Person, screen: Screen, stop: asyncio.Event) -> None:
    """Sends event after event, a few ahead of the screen; what fails is sent again, as agents do."""
    number = 0

    async def kept() -> bool:
        start = FIRST_SECONDS + APART_SECONDS * number
        body = {"device_id": "laptop", "source": "agent", "events": [event(start, 60)]}
        try:
            reply = await person.client.post("/v1/events", json=body, timeout=10)
        except httpx.HTTPError:
            return False
        assert reply.status_code in {200, 429, 503}, reply.text
        return reply.status_code == 200

    def is_near() -> bool:
        return stop.is_set() or number - len(screen.shown) < MOST_AHEAD

    while not stop.is_set():
        await eventually(kept, within=60, every=0.05)
        number += 1
        await eventually(is_near, within=90)


async def watched(suite: Suite, attack: "Any") -> Screen:
    """A screen that followed a person's work through `attack()` and shows all of it."""
    person = await Person.register(suite.url)
    screen = Screen(person)
    off, stop = asyncio.Event(), asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(screen.watch(off))
            await eventually(lambda: screen.connections, within=20)
            working = group.create_task(keep_working(person, screen, stop))
            await eventually(lambda: len(screen.shown) > 3, within=20)
            await attack()
            seen = len(screen.shown)
            # Live again, not only caught up.
            await eventually(lambda: len(screen.shown) > seen + 3, within=60)
            stop.set()
            await working

            async def complete() -> bool:
                there = {one["id"] for one in await person.sessions()}
                missing = there - screen.shown
                assert not missing, f"{len(missing)} of {len(there)} sessions are not shown"
                return len(there) > 3

            await eventually(complete, within=60, every=0.25)
            off.set()
    finally:
        await person.close()
    return screen


def assert_in_order(screen: Screen) -> None:
    """Within one life of the stream, nothing came twice or out of order."""
    lives: dict[str, list[int]] = {}
    for position in screen.positions:
        epoch, _, offset = position.rpartition(":")
        lives.setdefault(epoch, []).append(int(offset))
    for offsets in lives.values():
        assert offsets == sorted(offsets)


@pytest.mark.parametrize("victim", ["realtime", "sessions", "ingest", "valkey", "postgres"])
async def test_a_killed_part_behind_the_socket_is_no_gap_and_no_reconnect(
    suite: Suite, victim: str
) -> None:
    async def attack() -> None:
        await asyncio.to_thread(suite.restart, victim, SIGKILL)

    screen = await watched(suite, attack)
    assert (screen.connections, screen.reloads) == (1, 0)
    assert_in_order(screen)


async def test_a_killed_bus_is_told_on_the_same_socket(suite: Suite) -> None:
    async def attack() -> None:
        await asyncio.to_thread(suite.restart, "nats", SIGKILL)

    screen = await watched(suite, attack)
    assert screen.connections == 1
    # The history window lives in memory and ended with it.
    assert screen.reloads >= 1
    assert_in_order(screen)


@pytest.mark.parametrize("signal", [SIGTERM, SIGKILL], ids=lambda signal: signal.name)
async def test_a_gateway_that_ends_is_resumed_from_the_position(
    suite: Suite, signal: Signals
) -> None:
    async def attack() -> None:
        await asyncio.to_thread(suite.restart, "gateway", signal)

    screen = await watched(suite, attack)
    assert screen.connections == 2
    assert screen.reloads == 0
    assert_in_order(screen)


async def test_a_bus_that_hangs_for_a_while_is_no_gap(suite: Suite) -> None:
    async def attack() -> None:
        suite.kill("nats", SIGSTOP)
        try:
            await lasting(4)
        finally:
            suite.kill("nats", SIGCONT)

    screen = await watched(suite, attack)
    assert screen.connections == 1
    assert_in_order(screen)


async def test_presence_is_answered_from_memory_while_its_store_is_away(suite: Suite) -> None:
    person = await Person.register(suite.url)

    async def answer() -> dict[str, Any]:
        found: dict[str, Any] = await person.ok("GET", "/v1/presence")
        return found

    async def is_there() -> bool:
        return [one["user_id"] for one in (await answer())["items"]] == [person.id]

    async with person.live():
        await eventually(is_there, within=20)
        suite.kill("valkey", SIGSTOP)
        try:
            stale = await answer()
        finally:
            suite.kill("valkey", SIGCONT)
        assert stale["is_stale"] is True
        assert [one["user_id"] for one in stale["items"]] == [person.id]

        async def is_fresh() -> bool:
            return not (await answer())["is_stale"]

        await eventually(is_fresh, within=20)
    await person.close()
