"""From an accepted POST to a WebSocket message; many sockets; one message to all of them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bench.client import Connection, connections, percentile, request
from bench.events import at, body, long_ago
from bench.table import Row, at_most

SHOTS = 200
LOADED_SHOTS = 200
LOAD_BATCH = 100
LOAD_RATE = 5_000
SOCKETS = 3_000


@asynccontextmanager
async def subscribed(url: str, key: str) -> AsyncIterator[ClientConnection]:
    """A socket on the caller's own channel, live."""
    address = url.replace("http", "ws", 1) + "/v1/live"
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(address, additional_headers=headers, compression=None) as socket:
        await socket.send('{"type":"subscribe","channel":"me"}')
        async with asyncio.timeout(10):
            while json.loads(await socket.recv())["type"] != "subscribed":
                pass
        yield socket


async def _next_update(socket: ClientConnection, since: str) -> float:
    """When a session that ends at or after `since` was told."""
    async with asyncio.timeout(20):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message.get("event") == "session.updated" and message["data"]["end"] >= since:
                return time.perf_counter()


async def _shots(url: str, key: str, start: datetime, count: int, pause: float) -> list[float]:
    """Seconds from the accepted answer to the message, one event at a time."""
    taken = []
    async with subscribed(url, key) as socket, connections(url, 1) as (connection,):
        for number in range(count):
            payload = body("bench-live", start, number, 1)
            end = at(start, number) + timedelta(seconds=5)
            status, answer = await connection.send(request("POST", "/v1/events", key, payload))
            accepted = time.perf_counter()
            assert status == 200, answer
            wanted = end.astimezone(UTC).isoformat().replace("+00:00", "Z")
            taken.append(await _next_update(socket, wanted) - accepted)
            await asyncio.sleep(pause)
    return [max(one, 0.0) for one in taken]


async def latency(url: str, key: str, others: list[str]) -> list[Row]:
    """Idle, then while other people send 5,000 events a second."""
    idle = await _shots(url, key, long_ago(200), SHOTS, 0.02)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        load = group.create_task(_pour(url, others, stop))
        await asyncio.sleep(2)
        loaded = await _shots(url, key, long_ago(199), LOADED_SHOTS, 0.05)
        stop.set()
        sent = await load
    p50, p99 = (percentile(idle, share) * 1000 for share in (0.5, 0.99))
    return [
        at_most("live", "POST accepted → WebSocket, idle, p50", p50, 15, "ms"),
        at_most("live", "POST accepted → WebSocket, idle, p99", p99, 60, "ms"),
        at_most(
            "live",
            "POST accepted → WebSocket under load, p99",
            percentile(loaded, 0.99) * 1000,
            250,
            "ms",
            f"p50 {percentile(loaded, 0.5) * 1000:.0f} ms; {sent:,.0f} events/s flowed",
        ),
    ]


async def _pour(url: str, keys: list[str], stop: asyncio.Event) -> float:
    """Sends batches at a fixed pace until stopped; events a second it achieved."""
    pace = LOAD_BATCH / LOAD_RATE
    start = long_ago(250)
    began = time.perf_counter()
    number = 0
    async with connections(url, 4) as opened, asyncio.TaskGroup() as group:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for connection in opened:
            free.put_nowait(connection)
        while not stop.is_set():
            connection = await free.get()
            key = keys[number % len(keys)]
            payload = body("bench-load", start, number // len(keys) * LOAD_BATCH, LOAD_BATCH)
            group.create_task(
                _send_one(connection, request("POST", "/v1/events", key, payload), free.put_nowait)
            )
            number += 1
            due = began + number * pace
            await asyncio.sleep(max(due - time.perf_counter(), 0))
    return number * LOAD_BATCH / (time.perf_counter() - began)


async def _send_one(
    connection: Connection, payload: bytes, done: Callable[[Connection], None]
) -> None:
    status, answer = await connection.send(payload)
    assert status == 200, answer
    done(connection)


async def sockets(url: str, key: str, memory_of_gateway: Callable[[], float]) -> list[Row]:
    """Memory a socket costs the gateway, and how long one message takes to reach all."""
    before = memory_of_gateway()
    async with AsyncExitStack() as stack:
        opened = []
        gate = asyncio.Semaphore(50)

        async def open_one() -> None:
            async with gate:
                opened.append(await stack.enter_async_context(subscribed(url, key)))

        async with asyncio.TaskGroup() as group:
            for _ in range(SOCKETS):
                group.create_task(open_one())
        await asyncio.sleep(2)
        each_kb = (memory_of_gateway() - before) / SOCKETS / 1000
        last = sorted([await _broadcast(url, key, opened, shot) for shot in range(5)])[2]
    return [
        at_most(
            "live", f"{SOCKETS:,} WebSockets, memory of the gateway for each", each_kb, 45, "kB"
        ),
        at_most(
            "live",
            f"one message to {SOCKETS:,} WebSockets, last reached",
            last * 1000,
            300,
            "ms",
            "median of 5, from the first to the last socket reached",
        ),
    ]


async def _broadcast(url: str, key: str, opened: list[ClientConnection], shot: int) -> float:
    start = long_ago(180) + timedelta(hours=shot)
    end = start + timedelta(seconds=5)
    wanted = end.astimezone(UTC).isoformat().replace("+00:00", "Z")
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(_next_update(socket, wanted)) for socket in opened]
        async with connections(url, 1) as (connection,):
            payload = body("bench-broadcast", start, 0, 1)
            status, answer = await connection.send(request("POST", "/v1/events", key, payload))
            assert status == 200, answer
    reached = [wait.result() for wait in waits]
    for socket in opened:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await socket.recv()
    return max(reached) - min(reached)
