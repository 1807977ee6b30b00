"""Server-sent events as a browser's EventSource reads them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx


class EventStream:
    """One open stream: `heard` are its frames, `last_id` is what a reconnect would send."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.heard: list[dict[str, Any]] = []
        self.last_id = ""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, client: httpx.AsyncClient, last_id: str = "", **query: str
    ) -> AsyncIterator[Self]:
        """Subscribed to one channel, `me` unless `query` says otherwise."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        async with client.stream("GET", "/v1/live/sse", params=query, headers=headers) as reply:
            assert reply.status_code == 200, await reply.aread()
            assert reply.headers["content-type"].startswith("text/event-stream")
            yield cls(reply.aiter_lines())

    async def until(
        self, wanted: Callable[[dict[str, Any]], bool], *, seconds: float = 20
    ) -> dict[str, Any]:
        """The first frame for which `wanted(frame)` holds."""
        async with asyncio.timeout(seconds):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name == "id":
                    self.last_id = value
                elif name == "data":
                    self.heard.append(json.loads(value))
                    if wanted(self.heard[-1]):
                        return self.heard[-1]
        raise AssertionError(f"the stream ended; it said {self.heard}")
