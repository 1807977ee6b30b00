"""A backlog shows its age while it is worked off, however fast; autoscaling looks at it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chassis import subscription as subscription_module
from chassis.bus import Bus, OutMessage
from chassis.clock import MICROSECONDS, SystemClock
from chassis.deadletters import DeadLetters
from chassis.subscription import Delivery, PullLoop, Subscription
from tests.integration.chassis.streams import stream
from tests.support.eventually import eventually

HOUR_SECONDS = 3600.0


class LateClock(SystemClock):
    """An hour ahead: everything that is received has waited for that long."""

    def now_us(self) -> int:
        return super().now_us() + int(HOUR_SECONDS) * MICROSECONDS


class Gauge:
    """Remembers the last value, as a gauge does."""

    def __init__(self) -> None:
        self.value: float | None = None

    def set(self, value: float, _attributes: Any = None) -> None:
        self.value = value


async def test_a_backlog_that_is_handled_without_a_pause_is_as_old_as_its_oldest_message(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauge, seen = Gauge(), list[float | None]()
    monkeypatch.setattr(subscription_module, "_pending_age", gauge)
    await bus.ensure_stream(stream("ALPHA"))
    for number in range(5):
        await bus.publish([OutMessage("alpha.v1.sample", b"", f"backlog-{number}", {})])

    async def handle(_: Sequence[Delivery]) -> None:
        seen.append(gauge.value)

    clock = LateClock()
    loop = PullLoop(
        bus=bus,
        subscription=Subscription(
            stream="ALPHA",
            consumer="sample-alpha-all",
            subjects=("alpha.v1.>",),
            handler=handle,
            max_batch=1,
        ),
        dead_letters=DeadLetters(bus=bus, service="sample", clock=clock),
        clock=clock,
    )
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run(stopping))
        await eventually(lambda: len(seen) == 5, within=10)
        assert all(value is not None and value >= HOUR_SECONDS for value in seen)
        await eventually(lambda: gauge.value == 0.0)
        stopping.set()
