"""Valkey client and Lua scripts. Valkey is a cache: callers survive its absence (promise P9)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from chassis.errors import Unavailable

SOCKET_SECONDS: Final = 2.0


@asynccontextmanager
async def connect(url: str) -> AsyncIterator["Redis"]:
    """A client that reconnects by itself; it does not need Valkey to be up now."""
    client: Redis = Redis.from_url(
        url,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
    )
    try:
        yield client
    finally:
        await client.aclose()


class Script:
    """One Lua file, sent once and called by its hash."""

    def __init__(self, client: Redis, path: Path) -> None:
        self._script = client.register_script(path.read_text(encoding="utf-8"))

    async def __call__(self, *, keys: list[str], args: list[Any]) -> Any:
        """The script's reply.

        Raises:
            Unavailable: Valkey did not answer.
        """
        try:
            return await self._script(keys=keys, args=args)
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable("The presence store did not answer.") from error
