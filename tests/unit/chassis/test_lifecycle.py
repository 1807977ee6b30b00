"""Ordered start, drain on stop, hard stop at the deadline, and failing fast."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from chassis import lifecycle as lifecycle_module
from chassis.lifecycle import Lifecycle, serve
from chassis.settings import ServiceSettings
from tests.support.eventually import eventually

QUIET = ServiceSettings(health_listen="", drain_seconds=5.0)


class Story:
    """What happened, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)

    @asynccontextmanager
    async def resource(self, name: str) -> AsyncIterator[str]:
        self.tell(f"open {name}")
        try:
            yield name
        finally:
            self.tell(f"close {name}")

    async def polite(self, stopping: asyncio.Event) -> None:
        self.tell("loop runs")
        await stopping.wait()
        self.tell("loop finishes its batch")

    async def stuck(self, stopping: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.tell("stuck loop cancelled")
            raise

    async def relay(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self.tell("relay ends")


class Door:
    """A server that takes its time to stop."""

    def __init__(self, story: Story) -> None:
        self._story = story

    async def start(self) -> None:
        self._story.tell("server starts")

    async def stop(self) -> None:
        self._story.tell("server stops")


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
async def life() -> AsyncIterator[Lifecycle]:
    async with AsyncExitStack() as stack:
        yield Lifecycle(stack)


async def stop_when_ready(app: Lifecycle, stopping: asyncio.Event) -> None:
    await eventually(lambda: app.probe.is_started)
    stopping.set()


async def test_a_life_from_its_first_resource_to_its_last(story: Story) -> None:
    stopping = asyncio.Event()

    async def build(app: Lifecycle, settings: ServiceSettings) -> None:
        await app.open(story.resource("pool"))
        await app.open(story.resource("bus"))
        app.loop("polite", story.polite)
        app.relay("relay", story.relay)
        app.serve(Door(story))
        app.ready_when()
        asyncio.get_running_loop().call_soon(watch.append, app)

    watch: list[Lifecycle] = []
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve("sample", QUIET, build, stopping))
        await eventually(lambda: watch and watch[0].probe.is_started and "loop runs" in story.lines)
        assert not serving.done()
        stopping.set()
    assert story.lines[:2] == ["open pool", "open bus"]
    assert set(story.lines[2:4]) == {"server starts", "loop runs"}
    assert set(story.lines[4:6]) == {"server stops", "loop finishes its batch"}
    assert story.lines[6:] == ["relay ends", "close bus", "close pool"]


async def test_it_is_unready_from_the_moment_it_drains(life: Lifecycle) -> None:
    stopping, release = asyncio.Event(), asyncio.Event()

    async def slow_to_stop(stop: asyncio.Event) -> None:
        await stop.wait()
        await release.wait()

    life.loop("slow", slow_to_stop)
    async with asyncio.TaskGroup() as group:
        group.create_task(life.run(stopping, 5.0))
        await stop_when_ready(life, stopping)
        await eventually(lambda: life.probe.is_draining)
        assert (await life.probe.examine())["process"] == "draining"
        release.set()


async def test_a_stuck_loop_is_cancelled_at_the_deadline(life: Lifecycle, story: Story) -> None:
    stopping = asyncio.Event()
    life.loop("stuck", story.stuck)
    life.relay("relay", story.relay)
    async with asyncio.timeout(3), asyncio.TaskGroup() as group:
        group.create_task(life.run(stopping, 0.2))
        await stop_when_ready(life, stopping)
    assert story.lines == ["stuck loop cancelled", "relay ends"]


async def test_a_stuck_relay_is_cancelled_too(life: Lifecycle, story: Story) -> None:
    stopping = asyncio.Event()
    life.relay("stuck", story.stuck)
    async with asyncio.timeout(3), asyncio.TaskGroup() as group:
        group.create_task(life.run(stopping, 0.2))
        await stop_when_ready(life, stopping)
    assert story.lines == ["stuck loop cancelled"]


@pytest.mark.parametrize("place", ["loop", "relay"])
async def test_a_crash_takes_the_process_down_at_once(
    life: Lifecycle, story: Story, place: str
) -> None:
    async def crash(stopping: asyncio.Event) -> None:
        raise ZeroDivisionError

    life.loop("stuck", story.stuck)
    (life.loop if place == "loop" else life.relay)("crash", crash)
    async with asyncio.timeout(3):
        with pytest.raises(ExceptionGroup) as raised:
            await life.run(asyncio.Event(), 60.0)
    assert raised.group_contains(ZeroDivisionError)
    assert story.lines == ["stuck loop cancelled"]


async def test_a_server_that_can_not_start_is_a_crash(life: Lifecycle) -> None:
    class Locked(Door):
        async def start(self) -> None:
            raise RuntimeError("port taken")

    life.serve(Locked(Story()))
    with pytest.raises(ExceptionGroup) as raised:
        await life.run(asyncio.Event(), 1.0)
    assert raised.group_contains(RuntimeError, match="port taken")


async def test_resources_are_closed_when_building_fails(story: Story) -> None:
    async def build(app: Lifecycle, settings: ServiceSettings) -> None:
        await app.open(story.resource("pool"))
        raise LookupError("no key")

    with pytest.raises(LookupError, match="no key"):
        await serve("sample", QUIET, build, asyncio.Event())
    assert story.lines == ["open pool", "close pool"]


async def test_a_stop_while_dependencies_are_awaited_does_not_wait_for_them(story: Story) -> None:
    stopping = asyncio.Event()

    async def build(app: Lifecycle, settings: ServiceSettings) -> None:
        await app.open(story.resource("pool"))
        stopping.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(3):
        await serve("sample", QUIET, build, stopping)
    assert story.lines == ["open pool", "close pool"]


async def test_a_time_out_while_building_is_not_taken_for_a_stop() -> None:
    async def build(app: Lifecycle, settings: ServiceSettings) -> None:
        raise TimeoutError("the store never came")

    with pytest.raises(TimeoutError, match="never came"):
        await serve("sample", QUIET, build, asyncio.Event())


PROGRAM = """
import asyncio
from pydantic_settings import SettingsConfigDict
from chassis.lifecycle import run
from chassis.settings import ServiceSettings

class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_", extra="ignore", frozen=True)

async def build(app, settings):
    async def loop(stopping):
        print("running", flush=True)
        await stopping.wait()
        print("drained", flush=True)
    app.loop("loop", loop)

run("sample", Settings, build)
"""


def launch(**environment: str) -> subprocess.Popen[str]:
    root = str(Path(lifecycle_module.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=root,
        env={"PYTHONPATH": root, "SAMPLE_HEALTH_LISTEN": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_real_process_drains_and_exits_0_on_a_signal(number: signal.Signals) -> None:
    with launch() as process, contextlib.ExitStack() as cleanup:
        cleanup.callback(process.kill)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line == "running\n" for line in lines)
        process.send_signal(number)
        assert any(line == "drained\n" for line in lines)
        assert process.wait(10) == 0


def test_a_wrong_setting_is_named_and_exits_2() -> None:
    with launch(SAMPLE_DRAIN_SECONDS="soon") as process:
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert errors.startswith("SAMPLE_DRAIN_SECONDS: ")
    assert "Traceback" not in errors
