"""The session engine alone, and reading what it made."""

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

from bench.client import Connection, ask, connections, percentile, request
from bench.events import APPS, body, long_ago
from bench.table import Row, at_most, plain
from services.sessions.domain import Facets, Rules, derive, sample
from services.sessions.domain.categories import Categorizer
from services.sessions.domain.starter import STARTER_RULES

SECOND_US = 1_000_000
SAMPLES = 17_280
# What fits into a day with pauses.
READ_SAMPLES = 13_000
READS = 500


def full_day() -> list[Row]:
    """17,280 samples of five seconds, derived from nothing: usual, and every title different."""
    usual = _derive(lambda n: Facets(app=APPS[n // 12 % 6][0], title=APPS[n // 12 % 6][1]))
    worst = _derive(lambda n: Facets(app=APPS[n // 12 % 6][0], title=f"Title {n}"))
    return [
        at_most("engine", "one full day, 17,280 samples, usual", usual, 100, "ms", "median of 5"),
        at_most("engine", "one full day, every title different", worst, 100, "ms", "median of 5"),
    ]


def _derive(facets: Callable[[int], Facets]) -> float:
    categorize = Categorizer(STARTER_RULES)
    evidence = [
        sample("laptop", "window", n * 5 * SECOND_US, 5 * SECOND_US, facets=facets(n), idle=False)
        for n in range(SAMPLES)
    ]
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        derive(UUID(int=1), evidence, Rules(), categorize)
        taken.append(time.perf_counter() - began)
    return sorted(taken)[2] * 1000


async def day_read(url: str, key: str) -> list[Row]:
    """A full day written through the front door, then read again and again."""
    start = long_ago(100)
    async with connections(url, 1) as (connection,):
        for first in range(0, READ_SAMPLES, 1000):
            payload = body("bench-day", start, first, 1000)
            status, answer = await connection.send(request("POST", "/v1/events", key, payload))
            assert status == 200, answer
        began = time.perf_counter()
        path = f"/v1/days/{start.date().isoformat()}"
        await _settled(url, key, path)
        waited = time.perf_counter() - began
        taken = await _reads(connection, request("GET", path, key))
    p50, p99 = (percentile(taken, share) * 1000 for share in (0.5, 0.99))
    return [
        plain(
            "read",
            "a day of 13,000 samples sent at once is derived and readable after",
            waited,
            "s",
        ),
        at_most(
            "read", "GET /v1/days/{date} at the gateway, p50", p50, 5, "ms", f"p99 {p99:.1f} ms"
        ),
    ]


async def _settled(url: str, key: str, path: str) -> None:
    wanted = READ_SAMPLES * 5
    day = {"active_seconds": 0}
    for _ in range(600):
        day = await ask(url, key, "GET", path)
        if day["active_seconds"] >= wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{path} did not become whole: {day['active_seconds']} of {wanted} s")


async def _reads(connection: Connection, wanted: bytes) -> list[float]:
    taken = []
    for _ in range(READS):
        began = time.perf_counter()
        status, answer = await connection.send(wanted)
        taken.append(time.perf_counter() - began)
        assert status == 200, answer
    return taken
