"""Passwords: argon2id in threads, a bounded number at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from chassis.errors import Exhausted
from chassis.ids import new_secret
from services.gateway.settings import Settings

Result = TypeVar("Result")

# Whoever finds this many waiting is told to come back, so that a storm of sign-ins ends.
MAX_WAITING: Final = 64
RETRY_AFTER_SECONDS: Final = 2.0


class Passwords:
    """Hashes and verifies on the threads of `opened`."""

    def __init__(
        self, hasher: PasswordHasher, threads: ThreadPoolExecutor, nobodys_hash: str
    ) -> None:
        self._hasher = hasher
        self._threads = threads
        self._nobodys_hash = nobodys_hash
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """An argon2id hash with its own salt.

        Raises:
            Exhausted: too many are waiting.
        """
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether they match; takes as long without a hash, so that nobody learns who exists.

        Raises:
            Exhausted: too many are waiting.
        """
        matches = await self._run(lambda: self._matches(password, hashed or self._nobodys_hash))
        return matches and hashed is not None

    def _matches(self, password: str, hashed: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= MAX_WAITING:
            raise Exhausted(
                "Too many people are signing in.", retry_after_seconds=RETRY_AFTER_SECONDS
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Passwords]:
    """Passwords with threads of their own, which end with the block."""
    hasher = PasswordHasher(
        time_cost=settings.password_passes,
        memory_cost=settings.password_memory_kib,
        parallelism=1,
    )
    with ThreadPoolExecutor(settings.password_workers, "argon2") as threads:
        nobodys_hash = await asyncio.get_running_loop().run_in_executor(
            threads, hasher.hash, new_secret()
        )
        yield Passwords(hasher, threads, nobodys_hash)
