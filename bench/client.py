"""A lean HTTP/1.1 client: the load generator shares the machine with what it loads."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit


class Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connects to the host of `url`."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=2**22))

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a whole request."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lower = head.lower()
        at = lower.index(b"content-length:") + 15
        length = int(lower[at : lower.index(b"\r", at)])
        body = await self._reader.readexactly(length) if length else b""
        return status, body

    def close(self) -> None:
        """Hangs up."""
        self._writer.close()


def request(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """A whole request, ready to be written."""
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def connections(url: str, count: int) -> AsyncIterator[list[Connection]]:
    """`count` open connections."""
    opened = [await Connection.open(url) for _ in range(count)]
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


class Load:
    """What a closed loop of connections achieved."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.latencies: list[float] = []
        self.answers: list[bytes] = []

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds


async def closed_loop(url: str, requests: Sequence[bytes], *, concurrency: int) -> Load:
    """Sends every request once over `concurrency` connections; all must be answered 200.

    Raises:
        AssertionError: something was not accepted.
    """
    load = Load()
    waiting: Iterator[bytes] = iter(requests)

    async def work(connection: Connection) -> None:
        for one in waiting:
            began = time.perf_counter()
            status, body = await connection.send(one)
            load.latencies.append(time.perf_counter() - began)
            assert status == 200, (status, body[:300])
            load.answers.append(body)

    async with connections(url, concurrency) as opened:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for connection in opened:
                group.create_task(work(connection))
        load.seconds = time.perf_counter() - began
    return load


async def ask(url: str, key: str, method: str, path: str, body: object = None) -> Any:
    """One request and its JSON answer; anything but success is an error."""
    async with connections(url, 1) as (connection,):
        payload = json.dumps(body).encode() if body is not None else b""
        status, answer = await connection.send(request(method, path, key, payload))
        assert status < 300, (method, path, status, answer[:500])
        return json.loads(answer) if answer else None


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; n ≥ 1."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
