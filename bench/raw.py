"""What the machine can do without us: the yardsticks of the same run."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from nats.aio.client import Client
from nats.js.api import StreamConfig

from bench.table import Row, plain
from chassis.bus import Bus, OutMessage
from chassis.ids import new_id

ROWS = 60_000
BATCH = 1000
COLUMNS = (
    "org_id uuid, user_id uuid, device_id uuid, event_id uuid, start_at timestamptz, "
    "end_at timestamptz, source text, flags int, app text, title text, url text, data text, "
    "received_at timestamptz, PRIMARY KEY (org_id, device_id, event_id, start_at)"
)
INSERT = """
INSERT INTO raw_events
SELECT o, u, d, e, 'epoch'::timestamptz + s * interval '1 microsecond',
       'epoch'::timestamptz + n * interval '1 microsecond', 'bench', f, a, t, l, '', now()
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[], $7::int[],
            $8::text[], $9::text[], $10::text[]) AS x (o, u, d, e, s, n, f, a, t, l)
ON CONFLICT DO NOTHING
"""


def _rows(count: int) -> list[tuple[object, ...]]:
    org, user, device = UUID(int=1), UUID(int=2), UUID(int=3)
    start = 1_700_000_000_000_000
    return [
        (
            org,
            user,
            device,
            new_id(),
            start + n,
            start + n + 5_000_000,
            1,
            "Firefox",
            "Pull request 41",
            f"https://github.com/linden/shuttle/pull/{n % 40}",
        )
        for n in range(count)
    ]


@asynccontextmanager
async def _scratch(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await asyncpg.connect(dsn, ssl=False)
    try:
        await conn.execute("DROP TABLE IF EXISTS raw_events")
        await conn.execute(f"CREATE TABLE raw_events ({COLUMNS})")
        yield conn
    finally:
        await conn.execute("DROP TABLE raw_events")
        await conn.close()


async def insert_rate(dsn: str) -> float:
    """Rows a second of the plainest durable, deduplicated insert, 1,000 rows a commit."""
    rows = _rows(ROWS)
    async with _scratch(dsn) as conn:
        statement = await conn.prepare(INSERT)
        began = time.perf_counter()
        for at in range(0, ROWS, BATCH):
            columns = zip(*rows[at : at + BATCH], strict=True)
            await statement.fetch(*map(list, columns))
        return ROWS / (time.perf_counter() - began)


async def copy_rate(dsn: str) -> float:
    """Rows a second of COPY into the same columns without a key."""
    rows = _rows(ROWS)
    names = ["org_id", "user_id", "device_id", "event_id", "flags", "app", "title", "url"]
    picked = [(*row[:4], *row[6:]) for row in rows]
    async with _scratch(dsn) as conn:
        await conn.execute("ALTER TABLE raw_events DROP CONSTRAINT raw_events_pkey")
        await conn.execute("ALTER TABLE raw_events ALTER start_at DROP NOT NULL")
        began = time.perf_counter()
        await conn.copy_records_to_table("raw_events", records=picked, columns=names)
        return ROWS / (time.perf_counter() - began)


async def jetstream_rate(arguments: dict[str, Any]) -> float:
    """Messages a second of durable atomic batches of 1,000 with 256 bytes each."""
    client = Client()
    await client.connect(**arguments)
    bus = Bus(client)
    await bus.ensure_stream(StreamConfig(name="BENCH", subjects=["bench.>"], allow_atomic=True))
    try:
        count = 20_000
        messages = [OutMessage("bench.raw", b"x" * 256, new_id().hex, {}) for _ in range(count)]
        began = time.perf_counter()
        await bus.publish(messages)
        return count / (time.perf_counter() - began)
    finally:
        await client.jetstream().delete_stream("BENCH")
        await client.close()


async def grpc_rate() -> float:
    """Unary calls a second of an empty grpc.aio service in this process, 64 at a time."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    count = 4000
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        waiting = iter(range(count))

        async def work() -> None:
            for _ in waiting:
                await stub.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]  # stubs lack it

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(64):
                group.create_task(work())
        rate = count / (time.perf_counter() - began)
    await server.stop(None)
    return rate


async def measure(dsn: str, nats: dict[str, Any]) -> tuple[list[Row], float]:
    """The yardsticks, and the insert rate for ratios."""
    inserts = sorted([await insert_rate(dsn) for _ in range(3)])[1]
    rows = [
        plain("raw", "PostgreSQL COPY, no key, one connection", await copy_rate(dsn), "rows/s"),
        plain(
            "raw",
            "PostgreSQL INSERT … unnest … ON CONFLICT, 1,000 a commit",
            inserts,
            "rows/s",
            "median of 3",
        ),
        plain(
            "raw", "JetStream atomic batches of 1,000, fsync", await jetstream_rate(nats), "msg/s"
        ),
        plain("raw", "gRPC echo, client and server in one process", await grpc_rate(), "calls/s"),
    ]
    return rows, inserts
