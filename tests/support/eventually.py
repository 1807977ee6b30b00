"""Waiting for something to become true, instead of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

POLL_SECONDS = 0.02


@overload
async def eventually(
    check: Callable[[], Awaitable[T]], *, within: float = ..., every: float = ...
) -> T: ...
@overload
async def eventually(check: Callable[[], T], *, within: float = ..., every: float = ...) -> T: ...
async def eventually(
    check: Callable[[], Any], *, within: float = 5.0, every: float = POLL_SECONDS
) -> Any:
    """Call `check` until it returns something true, and return that.

    `check` may be async. While it returns something false, None included, or raises
    AssertionError, it is called again `every` seconds; so a check made of asserts ends with
    ``return True``.

    Raises:
        AssertionError: `within` seconds are over; the last failure of the check is its cause.
    """
    deadline = time.monotonic() + within
    while True:
        failure: AssertionError | None = None
        result: Any = None
        try:
            outcome = check()
            result = await outcome if inspect.isawaitable(outcome) else outcome
        except AssertionError as error:
            failure = error
        if failure is None and result:
            return result
        if time.monotonic() > deadline:
            last = failure or f"the last answer was {result!r}"
            raise AssertionError(f"not true within {within} s: {last}") from failure
        await asyncio.sleep(every)


def wait_until(check: Callable[[], T], *, within: float = 5.0, every: float = POLL_SECONDS) -> T:
    """`eventually` for code without an event loop; `check` does not assert."""
    deadline = time.monotonic() + within
    while not (result := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within} s: the last answer was {result!r}")
        time.sleep(every)
    return result


async def lasting(seconds: float) -> None:
    """Lets a fault last: the time is what the test is about, and nothing is hoped for meanwhile."""
    await asyncio.sleep(seconds)
