"""The loop that does what is due and sleeps until something else is."""

import asyncio
from collections.abc import Callable

from chassis.errors import Unavailable
from services.scheduler.due import DueLoop

IDLE = 0.4


class Work:
    """Answers as told, then stops the loop."""

    def __init__(self, *answers: bool | Exception, due: float | None = 0.0) -> None:
        self.answers = list(answers)
        self.due = due
        self.asked = 0
        self.stopping = asyncio.Event()

    async def do(self) -> bool:
        answer = self.answers.pop(0)
        if not self.answers:
            self.stopping.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def seconds_until_due(self) -> float | None:
        self.asked += 1
        return self.due


async def timed(work: Work, clock: Callable[[], float]) -> float:
    began = clock()
    async with asyncio.timeout(10):
        await DueLoop(work.do, work.seconds_until_due, idle_seconds=IDLE).run(work.stopping)
    return clock() - began


async def test_full_batches_follow_one_another_without_asking() -> None:
    work = Work(True, True, True, False)
    await timed(work, asyncio.get_running_loop().time)
    assert work.asked == 1


async def test_it_sleeps_until_the_next_is_due() -> None:
    work = Work(False, False, due=0.15)
    took = await timed(work, asyncio.get_running_loop().time)
    assert 0.14 <= took < IDLE


async def test_it_looks_again_soon_when_nothing_is_planned() -> None:
    for due in (None, 3600.0):
        work = Work(False, False, due=due)
        took = await timed(work, asyncio.get_running_loop().time)
        assert IDLE <= took < 5 * IDLE


async def test_what_another_replica_holds_does_not_make_it_spin() -> None:
    work = Work(*[False] * 6, due=-5.0)
    took = await timed(work, asyncio.get_running_loop().time)
    assert took >= 0.09


async def test_a_database_that_is_away_does_not_end_it() -> None:
    work = Work(Unavailable(), ConnectionError(), False)
    await timed(work, asyncio.get_running_loop().time)
    assert not work.answers


async def test_stopping_ends_its_sleep() -> None:
    work = Work(False, False, due=None)
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, work.stopping.set)
    assert await timed(work, loop.time) < IDLE
