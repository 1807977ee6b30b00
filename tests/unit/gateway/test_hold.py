"""Requests of clients that lose what is refused are held."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from chassis.clock import ManualClock
from chassis.errors import AppError, Exhausted, Invalid, Unavailable
from services.gateway.hold import Holder
from tests.support.eventually import eventually


class Client:
    """Waits for its answer until told to leave."""

    def __init__(self) -> None:
        self.has_left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.has_left.wait()
        return {"type": "http.disconnect"}


def failing(*errors: AppError) -> Callable[[], Any]:
    """Work that fails in these ways and then succeeds."""
    left = list(errors)

    async def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work


def holder(*, is_stopping: bool = False) -> Holder:
    return Holder(clock=ManualClock(), is_stopping=lambda: is_stopping, first_wait_seconds=0.01)


async def test_what_is_away_for_a_moment_is_waited_for() -> None:
    work = failing(Unavailable(), Exhausted("Too many."), Unavailable())
    assert await holder().until_done(work, receive=Client().receive) == "done"


async def test_what_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Invalid):
        await holder().until_done(failing(Invalid()), receive=Client().receive)


async def test_when_the_client_leaves_nobody_waits() -> None:
    async def work() -> str:
        raise Unavailable

    client, held = Client(), holder()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_outcome(held, work, client))
        await eventually(lambda: held.held)
        client.has_left.set()
    assert "left" in waiting.result()
    assert held.held == 0


async def _outcome(held: Holder, work: Callable[[], Any], client: Client) -> str:
    try:
        await held.until_done(work, receive=client.receive)
    except Unavailable as error:
        return str(error)
    return "done"


async def test_patience_ends_and_so_does_the_process() -> None:
    work = failing(*[Unavailable()] * 50)
    with pytest.raises(Unavailable):
        await holder().until_done(work, receive=Client().receive, patience_seconds=0.1)
    with pytest.raises(Unavailable):
        await holder(is_stopping=True).until_done(work, receive=Client().receive)
