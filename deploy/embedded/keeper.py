"""Keeps one program running: start, wait until ready, restart with back-off, stop."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from signal import SIGKILL, Signals

from deploy.embedded.child import Child, Program, tail
from deploy.embedded.errors import CannotRun, NeverReady

BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
# A program that ran this long before it fell starts again with the shortest back-off.
STEADY_SECONDS = 10.0
# Before it was ever ready, a program that falls this often will not get better by itself.
FALLS_BEFORE_GIVING_UP = 4

Ready = Callable[[], Awaitable[bool]]
Prepare = Callable[[], Awaitable[None]]
Announce = Callable[[str, str], None]


async def nothing_to_prepare() -> None:
    """The default for programs that need no work before each start."""


class Keeper:
    """One program, kept running from `start` until `stop`.

    `announce(name, sentence)` tells the operator what happened; `changed` is called whenever pid
    or readiness changed. `prepare` runs before every start and may raise CannotRun. `hurry` ends
    the grace period of a stop.
    """

    def __init__(
        self,
        program: Program,
        ready: Ready,
        announce: Announce,
        *,
        hurry: asyncio.Event,
        changed: Callable[[], None] = lambda: None,
        prepare: Prepare = nothing_to_prepare,
        poll_seconds: float = 0.02,
    ) -> None:
        self.program = program
        self.name = program.name
        self.child: Child | None = None
        self.restarts = 0
        self._is_ready = ready
        self._announce = announce
        self._hurry = hurry
        self._changed = changed
        self._prepare = prepare
        self._poll_seconds = poll_seconds
        self._ready = asyncio.Event()
        self._settled = asyncio.Event()  # ready for the first time, or given up
        self._failure: CannotRun | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether the program that runs now has said it is ready."""
        return self._ready.is_set()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to keep it running, in a task of `tasks`."""
        self._task = tasks.create_task(self._keep(), name=f"keep {self.name}")

    async def wait_ready(self) -> None:
        """Wait until it is ready for the first time.

        Raises:
            CannotRun: It could not be started, or fell too often before that.
        """
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Ask it to stop and wait until it is gone; killed when its grace period is over."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _keep(self) -> None:
        falls = 0
        clock = asyncio.get_running_loop().time
        try:
            while not self._stopping.is_set():
                started = clock()
                why = await self._run_once()
                if self._stopping.is_set():
                    return
                falls = 1 if clock() - started > STEADY_SECONDS else falls + 1
                if not self._settled.is_set() and falls >= FALLS_BEFORE_GIVING_UP:
                    raise NeverReady(self._with_log(f"{self.name} {why} and was never ready", 20))
                delay = BACKOFF_SECONDS[min(falls, len(BACKOFF_SECONDS)) - 1]
                self._announce(self.name, self._with_log(f"{why}; restarting in {delay} s", 5))
                self.restarts += 1
                await self._pause(delay)
        except CannotRun as error:
            if self._settled.is_set():
                self._announce(self.name, f"stays down: {error}")
            self._failure = error
            self._settled.set()

    async def _run_once(self) -> str:
        """One life of the program; returns how it ended."""
        await self._prepare()
        try:
            child = await Child.start(self.program)
        except OSError as error:
            raise CannotRun(f"{self.name} cannot be started: {error}") from error
        self.child = child
        self._changed()
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self._watch_readiness(child))
                stopper = tasks.create_task(self._stop_when_asked(child))
                status = await child.wait()
                watch.cancel()
                stopper.cancel()
        finally:
            child.send(SIGKILL)  # finds it alive only when this task was cancelled
            self._ready.clear()
            self._changed()
        return describe_exit(status)

    async def _watch_readiness(self, child: Child) -> None:
        # Polling a server over the network: it cannot set an event here.
        while not await self._is_ready():  # noqa: ASYNC110  # as said above
            await asyncio.sleep(self._poll_seconds)
        # Somebody else's server may have answered on the port while ours was dying.
        if child.alive:
            self._ready.set()
            if self._settled.is_set():
                self._announce(self.name, "is ready again")
            self._settled.set()
            self._changed()

    async def _stop_when_asked(self, child: Child) -> None:
        """Ends by cancellation when the child is gone."""
        await self._stopping.wait()
        child.send(self.program.stop_signal)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.program.grace_seconds):
                await self._hurry.wait()
        self._announce(self.name, "did not stop in time and is killed")
        child.send(SIGKILL)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _with_log(self, sentence: str, lines: int) -> str:
        end = tail(self.program.log, lines)
        return f"{sentence}; {self.program.log} ends with\n{end}" if end else sentence


def describe_exit(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
