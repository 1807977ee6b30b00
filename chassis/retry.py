"""Retry policies by name. Only for Unavailable or refused connections, never around a call that
is not idempotent; every policy is jittered, capped and ends.
"""

import asyncpg
import nats.errors
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential_jitter,
)

from chassis.errors import Unavailable

# What PostgreSQL says while it stops, starts, fails over or is short of something.
POSTGRES_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    # asyncpg's word for a server that hung up between two statements.
    asyncpg.InternalClientError,
)

TRANSIENT = (
    Unavailable,
    ConnectionError,
    TimeoutError,
    *POSTGRES_AWAY,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    nats.errors.Error,
)


def transient(attempts: int = 3) -> AsyncRetrying:
    """A few quick tries: a peer restarted, a deadlock, a leader moved."""
    return AsyncRetrying(
        retry=retry_if_exception_type(TRANSIENT),
        stop=stop_after_attempt(attempts),
        wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.05),
        reraise=True,
    )


def startup(seconds: float = 120.0) -> AsyncRetrying:
    """Patience while dependencies start in any order; the orchestrator decides after that."""
    return AsyncRetrying(
        retry=retry_if_exception_type((*TRANSIENT, OSError)),
        stop=stop_after_delay(seconds),
        wait=wait_exponential_jitter(multiplier=0.05, max=2.0, jitter=0.05),
        reraise=True,
    )
