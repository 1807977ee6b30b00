"""Questions put to a starting server; every one answers within its deadline or counts as no."""

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; `body` is parsed JSON, or the text when it is not JSON."""

    status: int
    body: Any


async def exchange(port: int, send: bytes, read_bytes: int) -> bytes:
    """Connect to loopback `port`, send, and return the first `read_bytes` bytes at most.

    Empty when nobody listens or nothing came in time.
    """
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(send)
                return await reader.read(read_bytes)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""


async def http_status(port: int, path: str, host: str = "127.0.0.1") -> int:
    """The status of GET `path`; 0 when there is no answer in time."""
    try:
        return (await call(host, port, "GET", path)).status
    except OSError:
        return 0


async def call(
    host: str,
    port: int,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Reply:
    """One JSON call.

    Raises:
        OSError: No answer, or one that is not HTTP.
    """

    def blocking() -> Reply:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
        payload = None if body is None else json.dumps(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        try:
            connection.request(method, path, payload, sent)
            response = connection.getresponse()
            text = response.read().decode()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
        try:
            return Reply(response.status, json.loads(text))
        except ValueError:
            return Reply(response.status, text)

    return await asyncio.to_thread(blocking)
