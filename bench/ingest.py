"""How fast events become durable over HTTP, by batch size."""

from bench.client import closed_loop, percentile, request
from bench.events import body, long_ago
from bench.table import Row, at_least, plain

BATCH_SIZES = (10, 100, 1000)
BATCH_BUDGET = 20_000
SINGLE_BUDGET = 1_500
RATIO_BUDGET = 35
SINGLE_POSTS = 6_000
CONNECTIONS = 64
MAX_WAITING_EVENTS = 8_000


async def measure(url: str, keys: list[str], raw_inserts: float) -> list[Row]:
    """Batches of several sizes, then single events; all of them new to the store."""
    rows = []
    for size in BATCH_SIZES:
        events = max(20_000, size * 60)
        rate = await _batches(url, keys, size, events)
        share = 100 * rate / raw_inserts
        what = f"POST /v1/events, batches of {size}"
        note = f"{share:.0f} % of raw INSERT"
        if size == 100:
            rows.append(at_least("ingest", what, rate, BATCH_BUDGET, "events/s", note))
            rows.append(
                at_least("ingest", "share of the raw INSERT rate", share, RATIO_BUDGET, "%")
            )
        else:
            rows.append(plain("ingest", what, rate, "events/s", note))
    rows.append(await _singles(url, keys))
    return rows


async def _batches(url: str, keys: list[str], size: int, events: int) -> float:
    start = long_ago(400 + size)
    share = len(keys)
    requests = [
        request(
            "POST", "/v1/events", keys[n % share], body("bench", start, n // share * size, size)
        )
        for n in range(events // size)
    ]
    # More than ingest lets wait would be answered 429.
    load = await closed_loop(url, requests, concurrency=min(16, MAX_WAITING_EVENTS // size))
    return load.rate * size


async def _singles(url: str, keys: list[str]) -> Row:
    start = long_ago(300)
    share = len(keys)
    requests = [
        request("POST", "/v1/events", keys[n % share], body("bench", start, n // share, 1))
        for n in range(SINGLE_POSTS)
    ]
    load = await closed_loop(url, requests, concurrency=CONNECTIONS)
    note = (
        f"p50 {percentile(load.latencies, 0.5) * 1000:.0f} ms, "
        f"p99 {percentile(load.latencies, 0.99) * 1000:.0f} ms"
    )
    return at_least(
        "ingest",
        f"single-event posts, {CONNECTIONS} connections",
        load.rate,
        SINGLE_BUDGET,
        "posts/s",
        note,
    )
