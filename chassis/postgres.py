"""Pools and the bridge from constraint names to errors. SQL lives in each service's store."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import asyncpg

from chassis.errors import AppError, Unavailable
from chassis.retry import POSTGRES_AWAY, startup
from chassis.settings import PostgresSettings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

# Longest wait for a free connection, in seconds: past it the database is the bottleneck and
# callers are better told so than queued.
ACQUIRE_SECONDS = 5.0
STATEMENT_SECONDS = 15.0
CLOSE_SECONDS = 5.0


@asynccontextmanager
async def pool(
    settings: PostgresSettings, *, application: str, plan_cache_mode: str = "auto"
) -> AsyncIterator[Pool]:
    """A pool on the service's own database; waits for the database while it starts.

    `plan_cache_mode` force_generic_plan suits statements over many partitions: planning one anew
    for each set of arguments costs milliseconds there, and a cached plan prunes just as well.
    """
    opened: Pool = await startup()(_open, settings, application, plan_cache_mode)
    try:
        yield opened
    finally:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await opened.close()
        except TimeoutError:
            opened.terminate()


async def _open(settings: PostgresSettings, application: str, plan_cache_mode: str) -> Pool:
    tls: ssl.SSLContext | bool = False
    if settings.postgres_tls_ca_file:
        tls = ssl.create_default_context(cafile=str(settings.postgres_tls_ca_file))
    return await asyncpg.create_pool(
        settings.postgres_dsn.get_secret_value(),
        min_size=1,
        max_size=settings.postgres_pool_size,
        command_timeout=STATEMENT_SECONDS,
        ssl=tls,
        server_settings={
            "application_name": application,
            "plan_cache_mode": plan_cache_mode,
            "idle_in_transaction_session_timeout": "30s",
            "lock_timeout": "10s",
            "TimeZone": "UTC",
        },
    )


@asynccontextmanager
async def connection(pool_: Pool) -> AsyncIterator[Connection]:
    """One connection.

    Raises:
        Unavailable: none became free in time, or the database is away.
    """
    try:
        held = await pool_.acquire(timeout=ACQUIRE_SECONDS)
    except (TimeoutError, OSError, *POSTGRES_AWAY, asyncpg.InterfaceError) as error:
        raise Unavailable("The database did not answer.") from error
    try:
        yield held
    except (*POSTGRES_AWAY, ConnectionError) as error:
        raise Unavailable("The database went away.") from error
    except asyncpg.InterfaceError as error:
        # asyncpg says this of a closed connection, and of arguments that do not fit the statement.
        if _is_gone(held):
            raise Unavailable("The database went away.") from error
        raise
    finally:
        # What was done is done, whether or not the connection can be used again; the pool replaces
        # one that can't.
        with suppress(TimeoutError, OSError, *POSTGRES_AWAY, asyncpg.InterfaceError):
            await pool_.release(held)


def _is_gone(held: Connection) -> bool:
    try:
        return held.is_closed()
    except asyncpg.InterfaceError:
        # The pool took a broken connection back already.
        return True


@asynccontextmanager
async def transaction(pool_: Pool) -> AsyncIterator[Connection]:
    """One connection in one transaction; commits when the block ends well.

    Raises:
        Unavailable: as `connection`.
    """
    async with connection(pool_) as held, held.transaction():
        yield held


@contextmanager
def constraints(errors: Mapping[str, AppError]) -> Iterator[None]:
    """Turns a violated constraint into the error its name stands for; others pass through."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        known = errors.get(error.constraint_name or "")
        if known is None:
            raise
        raise known from error
