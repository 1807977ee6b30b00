"""How a service lives: resources open in order, loops run side by side, SIGTERM drains.

A loop gets an event and finishes the work in hand once it is set. A loop that crashes takes the
process down at once: failing fast and being restarted beats half a service. After
`drain_seconds` what still runs is cancelled.

On SIGTERM: (1) not ready; (2) servers refuse new calls while consumers finish their batch;
(3) relays publish what those last calls committed; (4) resources close in reverse order.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol, TypeVar

import uvloop
from pydantic import ValidationError

from chassis import telemetry
from chassis.health import HealthServer, Probe
from chassis.log import configure, get_logger
from chassis.settings import ServiceSettings

log = get_logger(__name__)
Resource = TypeVar("Resource")
Settings = TypeVar("Settings", bound=ServiceSettings)
Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


class Server(Protocol):
    """Something that answers others: started last, stopped first."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Lifecycle:
    """What a composition root fills: resources at once, loops and servers for later."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._loops: list[tuple[str, Loop]] = []
        self._relays: list[tuple[str, Loop]] = []
        self._servers: list[Server] = []
        self.probe = Probe({})

    async def open(self, resource: AbstractAsyncContextManager[Resource]) -> Resource:
        """Opens a resource now; closed in reverse order at the end."""
        return await self._stack.enter_async_context(resource)

    def loop(self, name: str, run: Loop) -> None:
        """Runs `run(stopping)` until it returns."""
        self._loops.append((name, run))

    def relay(self, name: str, run: Loop) -> None:
        """As `loop`, but told to stop only when loops and servers have ended."""
        self._relays.append((name, run))

    def serve(self, server: Server) -> None:
        """Starts the server when every resource is open."""
        self._servers.append(server)

    def ready_when(self, **checks: Callable[[], Awaitable[None]]) -> None:
        """The dependencies that /readyz asks; each raises when its dependency is away."""
        self.probe = Probe(checks)

    async def run(self, stopping: asyncio.Event, drain_seconds: float) -> None:
        """Runs everything until `stopping` is set and all has ended, or time is up."""
        relays_stop = asyncio.Event()
        async with asyncio.TaskGroup() as outer:
            relays = [outer.create_task(run(relays_stop), name=name) for name, run in self._relays]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run(stopping), name=name) for name, run in self._loops]
                for server in self._servers:
                    await server.start()
                self.probe.is_started = True
                log.info("service.ready")
                await stopping.wait()
                self.probe.is_draining = True
                log.info("service.draining")
                stops = [group.create_task(server.stop()) for server in self._servers]
                await _within(drain_seconds * 0.8, [*tasks, *stops])
            relays_stop.set()
            await _within(drain_seconds * 0.2, relays)


async def _within(seconds: float, tasks: list[asyncio.Task[None]]) -> None:
    """Waits for tasks; cancels those that still run when time is up."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        log.warning("service.drain_timeout", task=task.get_name())
        task.cancel()


Build = Callable[[Lifecycle, Settings], Awaitable[None]]


async def serve(
    service: str, settings: Settings, build: Build[Settings], stopping: asyncio.Event
) -> None:
    """One service from its first resource to its last; returns when `stopping` was honoured."""
    provider = telemetry.set_up(service, sample_ratio=settings.trace_sample_ratio)
    try:
        async with AsyncExitStack() as stack:
            lifecycle = Lifecycle(stack)
            if not await _built(build(lifecycle, settings), stopping):
                log.info("service.stopped_while_starting")
                return
            lifecycle.relay("readiness", lifecycle.probe.watch)
            if settings.health_listen:
                health = HealthServer(listen=settings.health_listen, probe=lifecycle.probe)
                lifecycle.relay("health", health.run)
            await lifecycle.run(stopping, settings.drain_seconds)
    finally:
        await asyncio.to_thread(provider.shutdown)


async def _built(building: Awaitable[None], stopping: asyncio.Event) -> bool:
    """Waits for `building`; gives it up when the service is told to stop meanwhile.

    It runs in the caller's task, so that resources are closed by the task that opened them.
    """
    patience = asyncio.timeout(None)

    async def watch() -> None:
        await stopping.wait()
        if not patience.expired():
            patience.reschedule(asyncio.get_running_loop().time())

    try:
        async with patience:
            watching = asyncio.create_task(watch())
            try:
                await building
            finally:
                watching.cancel()
    except TimeoutError:
        if not patience.expired():
            raise
        return False
    return True


def run(service: str, settings_type: type[Settings], build: Build[Settings]) -> None:
    """The body of every `__main__`: settings, logs, signals, loop. Exits 2 on bad settings."""
    try:
        settings = settings_type.load()
    except ValidationError as error:
        prefix = str(settings_type.model_config.get("env_prefix", ""))
        for problem in error.errors():
            name = prefix + "_".join(map(str, problem["loc"])).upper()
            sys.stderr.write(f"{name}: {problem['msg']}\n")
        sys.exit(2)
    configure(service, settings.log_level)

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await serve(service, settings, build, stopping)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
