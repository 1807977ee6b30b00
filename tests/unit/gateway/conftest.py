"""A running hub in a live world of its own."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.clock import ManualClock
from services.gateway.hub import Hub
from tests.unit.gateway.live_world import LiveWorld, hub_on, settled


@pytest.fixture
def world() -> LiveWorld:
    return LiveWorld()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def hub(world: LiveWorld, clock: ManualClock) -> AsyncIterator[Hub]:
    """Runs for the test; leaves nobody behind."""
    started = hub_on(world, clock)
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(started.run(stopping))
        await settled(most=5)
        yield started
        for seat in started.seats:
            started.leave(seat)
        stopping.set()
