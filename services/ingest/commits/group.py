"""Group commit: what arrives while one commit is under way shares the next one.

A single event costs what a thousandth of a batch costs, because transaction, fsync and
announcement are shared; each caller still gets the answer it would have got alone.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from chassis import telemetry
from chassis.clock import Clock
from chassis.errors import Exhausted, Unavailable
from chassis.log import get_logger
from chassis.retry import TRANSIENT, transient

log = get_logger(__name__)

Work = TypeVar("Work")
Answer = TypeVar("Answer")

# Whoever comes when this much waits is told to come back: nobody should wait past a deadline for
# an answer, and memory has an end.
MAX_WAITING_EVENTS: Final = 10_000
MAX_WAITING_CHARACTERS: Final = 64_000_000
RETRY_AFTER_SECONDS: Final = 1.0
# A transaction of about a tenth of a second. One caller alone may bring more characters.
MAX_GROUP_EVENTS: Final = 5000
MAX_GROUP_CHARACTERS: Final = 16_000_000
MAX_GROUP_CALLERS: Final = 256
# While callers come side by side, commits start this far apart: some milliseconds of company save
# every service downstream the handling of hundreds of tiny messages. One caller alone never waits.
APART_SECONDS: Final = 0.01

_group_size = telemetry.meter.create_histogram("timeloom.ingest.group_size", "{event}")


class Load(NamedTuple):
    """What a caller brings: n ≥ 1 events, and what their texts come to."""

    events: int
    characters: int


class _Waiting(NamedTuple, Generic[Work, Answer]):
    work: Work
    load: Load
    traceparent: str
    answer: asyncio.Future[Answer]


class GroupCommit(Generic[Work, Answer]):
    """One commit at a time. `run` must be running for answers to come.

    `commit` is one transaction, or several of which each is safe to repeat; it gets the work of
    n ≥ 1 callers in the order they came and returns an answer for each.
    """

    def __init__(
        self, *, commit: Callable[[Sequence[Work]], Awaitable[list[Answer]]], clock: Clock
    ) -> None:
        self._commit = commit
        self._clock = clock
        # Bounded by MAX_WAITING_EVENTS, because every caller brings at least one.
        self._queue: deque[_Waiting[Work, Answer]] = deque()
        self._waiting = Load(0, 0)
        self._arrived = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Callers whose group has not begun."""
        return len(self._queue)

    def submit(self, work: Work, load: Load) -> asyncio.Future[Answer]:
        """Lets the work in at once; the answer comes when it is durable.

        Cancelling the answer takes nothing back. It raises Unavailable when the work is not known
        to be done, and doing it again is safe.

        Raises:
            Exhausted: too much waits already; nothing was done.
        """
        events, characters = (sum(pair) for pair in zip(self._waiting, load, strict=True))
        if events > MAX_WAITING_EVENTS or characters > MAX_WAITING_CHARACTERS:
            raise Exhausted(
                "Too many events are waiting to be kept.", retry_after_seconds=RETRY_AFTER_SECONDS
            )
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(work, load, telemetry.traceparent(), answer))
        self._waiting = Load(events, characters)
        self._arrived.set()
        return answer

    async def run(self, stopping: asyncio.Event) -> None:
        """Commits until stopped and nothing waits."""

        async def wake() -> None:
            await stopping.wait()
            self._arrived.set()

        try:
            async with asyncio.TaskGroup() as tasks:
                waking = tasks.create_task(wake())
                await self._commit_until(stopping)
                waking.cancel()
        finally:
            # Only reached with callers waiting when the service had to be cut off.
            for waiting in self._queue:
                _fail(waiting, Unavailable("The service is stopping."))

    async def _commit_until(self, stopping: asyncio.Event) -> None:
        next_at, is_busy = 0.0, False
        while self._queue or not stopping.is_set():
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if is_busy or len(self._queue) > 1:
                await asyncio.sleep(max(0.0, next_at - self._clock.monotonic()))
            next_at = self._clock.monotonic() + APART_SECONDS
            group = self._next_group()
            is_busy = len(group) > 1
            await self._answer(group)

    def _next_group(self) -> list[_Waiting[Work, Answer]]:
        group: list[_Waiting[Work, Answer]] = []
        events = characters = 0
        while self._queue and len(group) < MAX_GROUP_CALLERS:
            load = self._queue[0].load
            if group and (
                events + load.events > MAX_GROUP_EVENTS
                or characters + load.characters > MAX_GROUP_CHARACTERS
            ):
                break
            group.append(self._queue.popleft())
            events += load.events
            characters += load.characters
        left = self._waiting
        self._waiting = Load(left.events - events, left.characters - characters)
        return group

    async def _answer(self, group: Sequence[_Waiting[Work, Answer]]) -> None:
        """Commits a group; when that fails for a reason of its own, its members one by one."""
        try:
            answers: list[Answer] = await transient()(self._commit_once, group)
        except TRANSIENT as error:
            log.warning("commits.unavailable", callers=len(group), error=repr(error))
            for waiting in group:
                _fail(waiting, Unavailable("The events could not be kept just now."))
        except Exception as error:  # noqa: BLE001  # one bad caller must not fail its neighbours
            if len(group) == 1:
                _fail(group[0], error)
                return
            log.warning("commits.split", callers=len(group), error=repr(error))
            for waiting in group:
                await self._answer([waiting])
        else:
            for waiting, answer in zip(group, answers, strict=True):
                # A caller that gave up has no use for it.
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    async def _commit_once(self, group: Sequence[_Waiting[Work, Answer]]) -> list[Answer]:
        size = sum(waiting.load.events for waiting in group)
        with telemetry.span("ingest commit group", parents=_parents(group)) as span:
            span.set_attribute("timeloom.batch.size", size)
            answers = await self._commit([waiting.work for waiting in group])
        _group_size.record(size)
        return answers


def _fail(waiting: _Waiting[Work, Answer], error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
        # A caller that went away never asks; that is no news.
        waiting.answer.exception()


def _parents(group: Sequence[_Waiting[Work, Answer]]) -> list[str]:
    """The traces someone looks at, else any one: linking hundreds would cost more than they do."""
    sampled = [waiting.traceparent for waiting in group if waiting.traceparent.endswith("-01")]
    return sampled or [group[0].traceparent]
