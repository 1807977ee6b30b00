"""Passwords: right, wrong, unknown, and too many at once."""

import asyncio
import threading

import pytest

from chassis.errors import Exhausted
from services.gateway.passwords import MAX_WAITING, Passwords, opened
from services.gateway.settings import Settings

CHEAP = Settings(password_workers=1, password_memory_kib=8, password_passes=1)


async def test_a_password_matches_its_own_hash_only() -> None:
    async with opened(CHEAP) as passwords:
        hashed = await passwords.hash("correct horse")
        assert hashed.startswith("$argon2id$")
        assert hashed != await passwords.hash("correct horse")
        assert await passwords.verify("correct horse", hashed)
        assert not await passwords.verify("wrong horse", hashed)
        assert not await passwords.verify("correct horse", None)
        assert not await passwords.verify("correct horse", "no hash at all")


class Stuck:
    """A hasher that waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def hash(self, _password: str) -> str:
        self.go.wait(10)
        return "hash"


async def test_when_too_many_wait_the_next_is_told_to_come_back() -> None:
    async with opened(CHEAP) as real:
        stuck = Stuck()
        passwords = Passwords(stuck, real._threads, "")  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as group:
            for _ in range(MAX_WAITING):
                group.create_task(passwords.hash("x"))
            await asyncio.sleep(0)
            with pytest.raises(Exhausted) as caught:
                await passwords.hash("x")
            stuck.go.set()
        assert caught.value.retry_after_seconds > 0
        assert await passwords.hash("x") == "hash"
