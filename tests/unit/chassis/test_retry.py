"""Named policies: they try again for what passes, never for what does not, and they end."""

from collections.abc import Callable

import asyncpg
import nats.errors
import pytest

from chassis.errors import Conflict, Invalid, Unavailable
from chassis.retry import TRANSIENT, startup, transient


class Flaky:
    """Fails with the errors given, in turn, then succeeds; counts its calls."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.mark.parametrize(
    "error",
    [
        Unavailable(),
        ConnectionResetError(),
        TimeoutError(),
        nats.errors.NoRespondersError(),
        asyncpg.ConnectionDoesNotExistError(),
        asyncpg.CannotConnectNowError(),
        asyncpg.AdminShutdownError(),
        asyncpg.CrashShutdownError(),
        asyncpg.DeadlockDetectedError(),
        asyncpg.SerializationError(),
        asyncpg.LockNotAvailableError(),
        asyncpg.QueryCanceledError(),
        asyncpg.TooManyConnectionsError(),
        asyncpg.DiskFullError(),
        asyncpg.ReadOnlySQLTransactionError(),
        asyncpg.InternalClientError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_passes_by_itself_is_tried_again(error: Exception) -> None:
    work = Flaky(error)
    assert await transient()(work) == "done"
    assert work.calls == 2


@pytest.mark.parametrize(
    "error",
    [
        Invalid(),
        Conflict(),
        ValueError(),
        asyncpg.UniqueViolationError(),
        asyncpg.UndefinedColumnError(),
        asyncpg.InterfaceError("the server expects 2 arguments"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("policy", [transient, startup])
async def test_what_will_not_pass_is_tried_once(
    error: Exception, policy: Callable[[], Callable[..., object]]
) -> None:
    work = Flaky(error)
    with pytest.raises(type(error)):
        await policy()(work)  # type: ignore[misc]  # tenacity's policies are awaitable callables
    assert work.calls == 1


async def test_quick_tries_end_with_the_last_error() -> None:
    work = Flaky(*[Unavailable(f"try {number}") for number in range(1, 10)])
    with pytest.raises(Unavailable, match="try 3"):
        await transient()(work)
    assert work.calls == 3


async def test_patience_at_the_start_covers_a_refused_connection_and_ends() -> None:
    work = Flaky(*[OSError("refused") for _ in range(1000)])
    with pytest.raises(OSError, match="refused"):
        await startup(seconds=0.2)(work)
    assert 1 < work.calls < 20


def test_errors_of_our_own_are_never_transient_but_one() -> None:
    assert [cls for cls in TRANSIENT if issubclass(cls, Unavailable)] == [Unavailable]
    assert not isinstance(Invalid(), TRANSIENT)
