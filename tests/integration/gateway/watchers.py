"""Those who speak ActivityWatch's interface: over HTTP by hand, and its own client."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from aw_client import ActivityWatchClient
from aw_core.models import Event

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
WINDOW = {"client": "c", "hostname": "vm", "type": "currentwindow"}


class Agent:
    """Speaks HTTP as somebody's watcher."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self.http = http
        self.key = key

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        basic = base64.b64encode(f"org:{self.key}".encode()).decode()
        headers = {"authorization": f"Basic {basic}"} | more.pop("headers", {})
        return await self.http.request(method, f"/api/0{path}", headers=headers, **more)

    async def beat(
        self, bucket: str, seconds: float, data: dict[str, Any], *, pulse: float = 5, **more: Any
    ) -> httpx.Response:
        body = {"timestamp": at(seconds), "duration": 0, "data": data} | more
        path = f"/buckets/{bucket}/heartbeat?pulsetime={pulse}"
        return await self.ask("POST", path, json=body)


def at(seconds: float) -> str:
    """An instant of the test as clients write it."""
    return (NOW + timedelta(seconds=seconds)).isoformat()


@contextmanager
def aw_client(listen: str, key: str) -> Iterator[Any]:
    """An unmodified client, its key in the host name, with its queue running."""
    host, _, port = listen.partition(":")
    client: Any = ActivityWatchClient("aw-watcher-test", host=f"org:{key}@{host}", port=port)
    client.client_hostname = "laptop"
    try:
        yield client
    finally:
        if client.request_queue.is_alive():
            client.disconnect()
        client.request_queue._persistqueue.close()
        client.instance.fp.close()


def watch(client: Any, count: int) -> None:
    """What a window watcher and an AFK watcher say about `count` windows, ten seconds each."""
    client.create_bucket("aw-watcher-window_laptop", "currentwindow", queued=True)
    client.create_bucket("aw-watcher-afk_laptop", "afkstatus", queued=True)
    for n in range(count):
        start = NOW + timedelta(seconds=20 * n)
        for part in (0, 10):
            window = Event(
                timestamp=start + timedelta(seconds=part), data={"app": f"app {n}", "title": "t"}
            )
            client.heartbeat("aw-watcher-window_laptop", window, pulsetime=15, queued=True)
        afk = Event(timestamp=start, duration=20, data={"status": "not-afk"})
        client.heartbeat(
            "aw-watcher-afk_laptop", afk, pulsetime=185, queued=True, commit_interval=0.1
        )
