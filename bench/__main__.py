"""`python -m bench`: boots a suite of its own, measures, prints the table and writes the page."""

import argparse
import asyncio
import resource
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import uvloop
from rich.console import Console

from bench import engine, footprint, ingest, live, raw
from bench.client import ask
from bench.table import PAGE, ROOT, Row, at_most, show, write
from chassis.clock import SystemClock, to_datetime
from tests.support.servers import Suite

SERVICES = ("gateway", "ingest", "sessions", "scheduler", "realtime")
STORES = ("postgres", "nats", "valkey")
# What the live measurements need and no person does.
ENVIRONMENT = {
    "GATEWAY_LIVE_CONNECTIONS_PER_PERSON": "5000",
    "GATEWAY_SIGN_INS_PER_MINUTE_PER_ADDRESS": "10000",
}
PEOPLE = 20
console = Console()


async def _account(url: str) -> str:
    """A key of an organization of its own, so that measurements don't mix."""
    name = secrets.token_hex(6)
    account = {
        "email": f"bench-{name}@example.com",
        "password": secrets.token_hex(16),
        "name": "Bench",
        "organization_name": f"Bench {name}",
    }
    token = (await ask(url, "", "POST", "/v1/auth/register", account))["access_token"]
    wanted = {"name": "bench", "scopes": ["events:write", "read"]}
    key = await ask(url, token, "POST", "/v1/api-keys", wanted)
    return str(key["key"])


async def _accounts(url: str) -> list[str]:
    """Keys of several people, as load comes in life."""
    return [await _account(url) for _ in range(PEOPLE)]


async def _drained(suite: Suite) -> None:
    """Waits until sessions has handled what ingest announced, so that measurements start quiet."""
    client = await nats.connect(**suite.nats())
    try:
        for _ in range(1200):
            consumers = await client.jetstream().consumers_info("ACTIVITY")
            if not any(one.num_pending or one.num_ack_pending for one in consumers):
                return
            await asyncio.sleep(0.25)
    finally:
        await client.close()
    console.print("[yellow]sessions is still catching up; what follows is measured under load[/]")


async def _measure(suite: Suite, wanted: set[str]) -> list[Row]:
    url = suite.url
    pids = {name: suite.pid(name) for name in (*SERVICES, *STORES)}
    rows: list[Row] = []
    if "footprint" in wanted:
        rows.append(await footprint.idle(pids, suite.runner_pid))
    raw_rows, inserts = await raw.measure(suite.superuser_dsn, suite.nats())
    rows += raw_rows
    steps: dict[str, Callable[[], Awaitable[list[Row]]]] = {
        "live": lambda: _live(url),
        "sockets": lambda: _sockets(url, pids["gateway"]),
        "read": lambda: _read(url),
        "ingest": lambda: _ingest(url, inserts),
    }
    for name, step in steps.items():
        if name in wanted:
            console.print(f"measuring {name} …")
            rows += await step()
            await _drained(suite)
    if "engine" in wanted:
        rows += engine.full_day()
    return rows


async def _live(url: str) -> list[Row]:
    return await live.latency(url, await _account(url), await _accounts(url))


async def _sockets(url: str, gateway: int) -> list[Row]:
    key = await _account(url)
    return await live.sockets(url, key, lambda: footprint.memory_of([gateway]))


async def _read(url: str) -> list[Row]:
    return await engine.day_read(url, await _account(url))


async def _ingest(url: str, inserts: float) -> list[Row]:
    return await ingest.measure(url, await _accounts(url), inserts)


PARTS = ("footprint", "live", "sockets", "read", "ingest", "engine")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only",
        choices=PARTS,
        nargs="+",
        default=list(PARTS),
        help="measure only these; the page is written when all are measured",
    )
    wanted = set(parser.parse_args().only)
    # Thousands of sockets on both ends.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    with tempfile.TemporaryDirectory(prefix="timeloom-bench-") as folder:
        suite = Suite(Path(folder) / "data", environment=ENVIRONMENT)
        suite.start()
        suite.stop()
        # The second start is the one people wait for: everything is installed and initialised.
        began = time.perf_counter()
        with suite:
            started = time.perf_counter() - began
            rows = [at_most("footprint", "second start → ready", started, 10, "s")]
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rows += runner.run(_measure(suite, wanted))
    show(rows, console)
    if wanted == set(PARTS):
        write(rows, date=to_datetime(SystemClock().now_us()).date().isoformat())
        console.print(f"written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
