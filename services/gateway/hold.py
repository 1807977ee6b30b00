"""Holding a request while something is away, for clients that lose what is refused.

aw-client 0.5.15 drops a heartbeat on any HTTP error but waits for an answer as long as it takes,
so waiting is the only way to say "not now".
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from chassis.clock import Clock
from chassis.errors import Exhausted, Unavailable
from chassis.log import get_logger

log = get_logger(__name__)
Result = TypeVar("Result")

TRY_SECONDS: Final = 10.0
FIRST_WAIT_SECONDS: Final = 0.25
MAX_WAIT_SECONDS: Final = 5.0
# Past it requests are refused at once: each held one keeps a connection.
MAX_HELD: Final = 5000


class Holder:
    """Tries again and again on behalf of a client that waits; `is_stopping` ends the waiting."""

    def __init__(
        self,
        *,
        clock: Clock,
        is_stopping: Callable[[], bool],
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self._clock = clock
        self._first_wait_seconds = first_wait_seconds
        self._is_stopping = is_stopping
        self.held = 0

    async def until_done(
        self,
        work: Callable[[], Awaitable[Result]],
        *,
        receive: Callable[[], Awaitable[Any]],
        patience_seconds: float | None = None,
        try_seconds: float = TRY_SECONDS,
    ) -> Result:
        """What `work` returns, once it neither runs into a limit nor finds something away.

        `work` may be repeated, and is when it takes longer than `try_seconds`. `receive` is the ASGI callable of the request, whose body was read.
        Without `patience_seconds` it goes on for as long as the client stays.

        Raises:
            Unavailable, Exhausted: patience or process end, or the client left.
            AppError: as `work`, for anything else.
        """

        async def attempt() -> Result:
            return await _within(try_seconds, work)

        try:
            return await attempt()
        except (Unavailable, Exhausted) as error:
            if self.held >= MAX_HELD:
                raise
            log.info("request.held", reason=str(error))
        self.held += 1
        try:
            return await self._keep_trying(attempt, receive, patience_seconds)
        finally:
            self.held -= 1

    async def _keep_trying(
        self,
        work: Callable[[], Awaitable[Result]],
        receive: Callable[[], Awaitable[Any]],
        patience_seconds: float | None,
    ) -> Result:
        ends = self._clock.monotonic() + (patience_seconds or float("inf"))
        wait = self._first_wait_seconds
        while True:
            if await _has_left(receive, within=wait):
                raise Unavailable("The client left.")
            wait = min(wait * 2, MAX_WAIT_SECONDS)
            try:
                return await work()
            except (Unavailable, Exhausted):
                if self._is_stopping() or self._clock.monotonic() + wait > ends:
                    raise


async def _within(seconds: float, work: Callable[[], Awaitable[Result]]) -> Result:
    try:
        async with asyncio.timeout(seconds):
            return await work()
    except TimeoutError:
        raise Unavailable("The service did not answer in time.") from None


async def _has_left(receive: Callable[[], Awaitable[Any]], *, within: float) -> bool:
    """Waits, and notices when there is nobody left to wait for."""
    try:
        async with asyncio.timeout(within):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True
