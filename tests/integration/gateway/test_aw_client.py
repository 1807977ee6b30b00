"""The unmodified aw-client against the real gateway and the real ingest."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aw_core.models import Event

from deploy.embedded.ports import pick
from services.ingest.app import build as build_ingest
from tests.integration.gateway.conftest import clean_streams, running
from tests.integration.gateway.neighbours import ingest_settings, neighbourhood, process
from tests.integration.gateway.watchers import NOW, Agent, aw_client, watch
from tests.support.eventually import eventually
from tests.support.servers import Stores

pytestmark = pytest.mark.integration


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where aw-client keeps its configuration, queue and locks."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    return tmp_path


async def test_the_unmodified_client_works_from_one_end_to_the_other(
    servers: Stores, tracing: None, home: Path
) -> None:
    async with neighbourhood(servers) as town:
        ada = await town.gateway.register()
        key = await town.gateway.key(ada, "read", "events:write")
        with aw_client(town.gateway.settings.listen, key) as client:
            await use_everything(client)


async def use_everything(client: Any) -> None:
    info = await asyncio.to_thread(client.get_info)
    assert info["testing"] is False
    watch(client, 10)
    client.connect()

    async def arrived() -> bool:
        found = await asyncio.to_thread(client.get_buckets)
        if len(found) < 2:
            return False
        return bool(
            await asyncio.to_thread(client.get_eventcount, "aw-watcher-window_laptop") >= 10
        )

    await eventually(arrived, within=20)
    events = await asyncio.to_thread(client.get_events, "aw-watcher-window_laptop")
    assert [event.data["app"] for event in events] == [f"app {n}" for n in reversed(range(10))]
    assert {event.duration for event in events} == {timedelta(seconds=10)}
    one = await asyncio.to_thread(client.get_event, "aw-watcher-window_laptop", events[0].id)
    assert one == events[0]
    await asyncio.to_thread(
        client.insert_event, "aw-watcher-window_laptop", Event(timestamp=NOW, data={"x": 1})
    )
    await asyncio.to_thread(client.delete_event, "aw-watcher-window_laptop", events[0].id)
    exported = await asyncio.to_thread(client.export_bucket, "aw-watcher-window_laptop")
    assert len(exported["buckets"]["aw-watcher-window_laptop"]["events"]) == 10
    await asyncio.to_thread(client.delete_bucket, "aw-watcher-window_laptop", force=True)
    assert list(await asyncio.to_thread(client.get_buckets)) == ["aw-watcher-afk_laptop"]


async def test_the_client_loses_nothing_while_ingest_is_away(
    servers: Stores, tracing: None, home: Path
) -> None:
    await clean_streams(servers)
    own, events = await servers.create_database("gateway"), await servers.create_database("ingest")
    (port,) = pick(1)
    async with running(servers, own.dsn, ingest_target=f"127.0.0.1:{port}") as gateway:
        ada = await gateway.register()
        key = await gateway.key(ada, "read", "events:write")
        settings = ingest_settings(servers, events.dsn, port)
        with aw_client(gateway.settings.listen, key) as client:
            watch(client, 5)
            async with process(build_ingest, settings):
                client.connect()
                agent = Agent(gateway.http, key)
                await eventually(lambda: count_of(agent, 5), within=20)
            # Queued while ingest is down: each is held until it is back.
            watch_again(client)
            held = asyncio.create_task(agent.beat("own_laptop", 0, {"app": "patient"}))
            done, _ = await asyncio.wait([held], timeout=2)
            assert not done
            async with process(build_ingest, settings):
                assert (await held).status_code == 200
                await eventually(lambda: count_of(agent, 5 + 3), within=20)
    await servers.drop_database(own)
    await servers.drop_database(events)


def watch_again(client: Any) -> None:
    for n in range(4):
        window = Event(timestamp=NOW + timedelta(seconds=1000 + 20 * n), data={"app": f"late {n}"})
        client.heartbeat("aw-watcher-window_laptop", window, pulsetime=15, queued=True)


async def count_of(agent: Agent, expected: int) -> bool:
    reply = await agent.ask("GET", "/buckets/aw-watcher-window_laptop/events/count")
    return reply.text == str(expected)
