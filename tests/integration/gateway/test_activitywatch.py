"""ActivityWatch's interface through the real gateway and ingest, with the real aw-client."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aw_client import ActivityWatchClient
from aw_core.models import Event

from deploy.embedded.ports import pick
from services.ingest.app import build as build_ingest
from tests.integration.gateway.conftest import Person, clean_streams, running
from tests.integration.gateway.neighbours import (
    Neighbourhood,
    ingest_settings,
    neighbourhood,
    process,
)
from tests.support.eventually import eventually
from tests.support.servers import Stores

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
WINDOW = {"client": "c", "hostname": "vm", "type": "currentwindow"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(servers: Stores, tracing: None) -> AsyncIterator[Neighbourhood]:
    async with neighbourhood(servers) as started:
        yield started


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


@pytest_asyncio.fixture(loop_scope="module")
async def ada(town: Neighbourhood) -> Person:
    return await town.gateway.register()


@pytest_asyncio.fixture(loop_scope="module")
async def agent(town: Neighbourhood) -> Agent:
    ada = await town.gateway.register()
    return Agent(town.gateway.http, await town.gateway.key(ada, "read", "events:write"))


async def test_the_server_says_what_it_is_to_anybody(town: Neighbourhood) -> None:
    reply = await town.gateway.http.get("/api/0/info")
    assert reply.status_code == 200
    assert reply.json().keys() == {"hostname", "version", "testing", "device_id"}
    assert reply.json()["testing"] is False


async def test_a_bucket_is_made_once(agent: Agent) -> None:
    first = await agent.ask("POST", "/buckets/b1", json=WINDOW)
    assert (first.status_code, first.json()) == (200, {})
    again = await agent.ask("POST", "/buckets/b1", json=WINDOW)
    assert (again.status_code, again.content) == (304, b"")
    shown = (await agent.ask("GET", "/buckets/b1")).json()
    assert shown.pop("created").endswith("+00:00")
    assert shown == {"id": "b1", "name": None, "data": {}} | WINDOW
    for path in ("/buckets", "/buckets/"):
        assert list((await agent.ask("GET", path)).json()) == ["b1"]
    changed = await agent.ask("PUT", "/buckets/b1", json=WINDOW | {"client": "d"})
    assert (changed.status_code, changed.json()) == (200, {})
    assert (await agent.ask("GET", "/buckets/b1")).json()["client"] == "d"


async def test_heartbeats_merge_as_on_the_reference_server(agent: Agent) -> None:
    await agent.ask("POST", "/buckets/b1", json=WINDOW)
    first = (await agent.beat("b1", 0, {"app": "a"})).json()
    assert first == {
        "id": first["id"],
        "timestamp": NOW.isoformat(),
        "duration": 0.0,
        "data": {"app": "a"},
    }
    assert 0 < first["id"] < 2**53
    for seconds, duration in ((5, 5.0), (10.000999, 10.0)):
        merged = (await agent.beat("b1", seconds, {"app": "a"})).json()
        assert (merged["id"], merged["duration"]) == (first["id"], duration)
    other = (await agent.beat("b1", 15.002, {"app": "a"})).json()
    assert other["id"] != first["id"]
    assert other["timestamp"] == (NOW + timedelta(seconds=15.002)).isoformat()
    clipped = await agent.ask("GET", f"/buckets/b1/events?start={at(3)}&end={at(6)}")
    assert [(e["id"], e["timestamp"], e["duration"]) for e in clipped.json()] == [
        (first["id"], at(3), 3.001)
    ]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("heartbeat", {"timestamp": at(0)}, "Missing required parameter pulsetime"),
        ("heartbeat?pulsetime=5", {"data": {}}, "Input payload validation failed"),
        ("heartbeat?pulsetime=5", {"timestamp": "garbage"}, "timestamp"),
        ("heartbeat?pulsetime=5", [], "object"),
        ("heartbeat?pulsetime=5", {"timestamp": at(86_400)}, "can't be kept"),
        ("events", 7, "object"),
        ("events", {"timestamp": at(86_400)}, "ahead"),
    ],
)
async def test_what_is_malformed_is_400_with_a_message(
    agent: Agent, path: str, body: Any, message: str
) -> None:
    await agent.ask("POST", "/buckets/b1", json=WINDOW)
    reply = await agent.ask("POST", f"/buckets/b1/{path}", json=body)
    assert reply.status_code == 400
    assert message in reply.json()["message"]
    assert reply.headers["content-type"] == "application/json"


async def test_a_missing_timestamp_is_named_as_on_the_reference_server(agent: Agent) -> None:
    reply = await agent.ask("POST", "/buckets/b1/heartbeat?pulsetime=5", json={"data": {}})
    assert reply.json() == {
        "message": "Input payload validation failed",
        "errors": {"timestamp": "'timestamp' is a required property"},
    }


async def test_a_heartbeat_for_an_unknown_bucket_makes_it(agent: Agent) -> None:
    reply = await agent.beat("aw-watcher-window_laptop", 0, {"app": "a", "title": "t"})
    assert reply.status_code == 200
    made = (await agent.ask("GET", "/buckets/aw-watcher-window_laptop")).json()
    assert (made["type"], made["client"], made["hostname"]) == (
        "currentwindow",
        "aw-watcher-window",
        "laptop",
    )


async def test_events_are_kept_listed_counted_found_replaced_and_removed(agent: Agent) -> None:
    await agent.ask("POST", "/buckets/b1", json=WINDOW)
    events = [
        {"timestamp": at(60 * n), "duration": 30.5, "data": {"app": f"a{n}", "list": [1, None]}}
        for n in range(5)
    ]
    assert (await agent.ask("POST", "/buckets/b1/events", json=events)).json() is None
    again = await agent.ask("POST", "/buckets/b1/events", json=events[0])
    assert (again.status_code, again.json()) == (200, None)
    listed = (await agent.ask("GET", "/buckets/b1/events?limit=-1")).json()
    assert [event["data"]["app"] for event in listed] == ["a4", "a3", "a2", "a1", "a0"]
    assert listed[0] == {"id": listed[0]["id"]} | events[4]
    assert len((await agent.ask("GET", "/buckets/b1/events?limit=2")).json()) == 2
    assert (await agent.ask("GET", "/buckets/b1/events?limit=0")).json() == []
    assert (await agent.ask("GET", "/buckets/b1/events/count")).text == "5"
    part = f"/buckets/b1/events/count?start={at(60)}&end={at(130)}"
    assert (await agent.ask("GET", part)).text == "2"

    one = f"/buckets/b1/events/{listed[0]['id']}"
    assert (await agent.ask("GET", one)).json() == listed[0]
    changed = listed[0] | {"data": {"app": "new"}}
    assert (await agent.ask("POST", "/buckets/b1/events", json=[changed])).status_code == 200
    assert (await agent.ask("GET", one)).json()["data"] == {"app": "new"}
    assert (await agent.ask("GET", "/buckets/b1/events/count")).text == "5"

    assert (await agent.ask("DELETE", one)).json() == {"success": True}
    assert (await agent.ask("DELETE", one)).json() == {"success": False}
    gone = await agent.ask("GET", one)
    assert (gone.status_code, gone.json()) == (404, None)


async def test_a_bad_event_among_good_ones_is_the_only_one_left_out(agent: Agent) -> None:
    await agent.ask("POST", "/buckets/b1", json=WINDOW)
    events = [{"timestamp": at(0)}, {"data": {}}, {"timestamp": at(86_400)}, {"timestamp": at(9)}]
    reply = await agent.ask("POST", "/buckets/b1/events", json=events)
    assert reply.status_code == 200
    assert [one["index"] for one in reply.json()["rejected"]] == [1, 2]
    assert (await agent.ask("GET", "/buckets/b1/events/count")).text == "2"


async def test_a_bucket_goes_only_by_force(agent: Agent) -> None:
    await agent.ask("POST", "/buckets/b1", json=WINDOW)
    await agent.beat("b1", 0, {})
    refused = await agent.ask("DELETE", "/buckets/b1", json={})
    assert refused.status_code == 401
    assert "force" in refused.json()["message"]
    gone = await agent.ask("DELETE", "/buckets/b1?force=1", json={})
    assert (gone.status_code, gone.json()) == (200, {})
    for method, path in (
        ("GET", "/buckets/b1"),
        ("DELETE", "/buckets/b1?force=1"),
        ("GET", "/buckets/b1/events"),
        ("GET", "/buckets/b1/events/count"),
        ("GET", "/buckets/b1/export"),
        ("GET", "/nowhere"),
    ):
        reply = await agent.ask(method, path)
        assert (reply.status_code, list(reply.json())) == (404, ["message"]), path


async def test_an_export_can_be_taken_in_again_and_again(agent: Agent, town: Neighbourhood) -> None:
    await agent.ask("POST", "/buckets/b1", json=WINDOW)
    await agent.ask("POST", "/buckets/b2", json=WINDOW | {"type": "afkstatus"})
    events = [{"timestamp": at(n), "duration": 1, "data": {"app": str(n)}} for n in range(2500)]
    assert (await agent.ask("POST", "/buckets/b1/events", json=events)).json() is None
    reply = await agent.ask("GET", "/export")
    assert "aw-buckets-export.json" in reply.headers["content-disposition"]
    exported = reply.json()
    assert list(exported["buckets"]) == ["b1", "b2"]
    newest = exported["buckets"]["b1"]["events"][0]
    assert newest == events[-1]
    assert len(exported["buckets"]["b1"]["events"]) == 2500
    single = (await agent.ask("GET", "/buckets/b1/export")).json()
    assert single["buckets"]["b1"] == exported["buckets"]["b1"]

    ben = await town.gateway.register()
    other = Agent(town.gateway.http, await town.gateway.key(ben, "read", "events:write"))
    assert (await other.ask("GET", "/buckets")).json() == {}
    for _ in range(2):
        taken = await other.ask("POST", "/import", json=exported)
        assert (taken.status_code, taken.json()) == (200, None)
    upload = {"buckets.json": ("x.json", reply.content, "application/json")}
    assert (await other.ask("POST", "/import", files=upload)).status_code == 200
    again = (await other.ask("GET", "/export")).json()
    for bucket in again["buckets"].values():
        bucket["created"] = exported["buckets"][bucket["id"]]["created"]
    assert again == exported


async def test_of_incognito_tabs_only_the_answer_repeats_what_was_sent(agent: Agent) -> None:
    data = {"url": "https://secret/", "title": "Secret", "incognito": True}
    await agent.ask("POST", "/buckets/web", json=WINDOW | {"type": "web.tab.current"})
    assert (await agent.beat("web", 0, data)).json()["data"] == data
    kept = (await agent.ask("GET", "/buckets/web/events")).json()
    assert [event["data"] for event in kept] == [{"incognito": True}]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer {key}"},
        {"x-api-key": "{key}"},
        {"authorization": "Basic {key_as_user}"},
        {"authorization": "Basic {key_as_password}"},
    ],
)
async def test_the_key_comes_in_any_of_these_ways(
    town: Neighbourhood, agent: Agent, headers: dict[str, str]
) -> None:
    words = {
        "key": agent.key,
        "key_as_user": base64.b64encode(f"{agent.key}:".encode()).decode(),
        "key_as_password": base64.b64encode(f"anything:{agent.key}".encode()).decode(),
    }
    own = {name: value.format(**words) for name, value in headers.items()}
    reply = await town.gateway.http.get("/api/0/buckets", headers=own)
    assert reply.status_code == 200


async def test_who_is_not_known_is_401_and_who_may_not_is_403(
    town: Neighbourhood, ada: Person
) -> None:
    stranger = Agent(town.gateway.http, "tl_000000000000_nobodyatallnobodyatall")
    reply = await stranger.ask("POST", "/buckets/b1", json=WINDOW)
    assert reply.status_code == 401
    assert list(reply.json()) == ["message"]
    assert reply.headers["www-authenticate"].startswith("Basic")
    reader = Agent(town.gateway.http, await town.gateway.key(ada, "read"))
    assert (await reader.ask("POST", "/buckets/b1", json=WINDOW)).status_code == 403
    writer = Agent(town.gateway.http, await town.gateway.key(ada, "events:write"))
    assert (await writer.ask("GET", "/buckets")).status_code == 403


async def test_a_key_that_may_only_write_is_all_a_watcher_needs(
    town: Neighbourhood, ada: Person
) -> None:
    writer = Agent(town.gateway.http, await town.gateway.key(ada, "events:write"))
    assert (await writer.ask("POST", "/buckets/b1", json=WINDOW)).status_code == 200
    assert (await writer.ask("POST", "/buckets/b1", json=WINDOW)).status_code == 304
    assert (await writer.beat("b1", 0, {"app": "a"})).status_code == 200
    assert (await writer.beat("b2_host", 0, {"app": "a"})).status_code == 200


async def test_people_of_one_organization_have_buckets_of_their_own(
    town: Neighbourhood, ada: Person
) -> None:
    ben = await town.gateway.join(ada, "member")
    hers = Agent(town.gateway.http, await town.gateway.key(ada, "read", "events:write"))
    his = Agent(town.gateway.http, await town.gateway.key(ben, "read", "events:write"))
    for agent, app in ((hers, "hers"), (his, "his")):
        assert (await agent.ask("POST", "/buckets/b1", json=WINDOW)).status_code == 200
        await agent.beat("b1", 0, {"app": app})
    mine = (await hers.ask("GET", "/buckets/b1/events")).json()
    assert [event["data"]["app"] for event in mine] == ["hers"]
    found = await his.ask("GET", f"/buckets/b1/events/{mine[0]['id']}")
    assert found.status_code == 404


async def test_a_host_becomes_a_device(town: Neighbourhood, ada: Person) -> None:
    agent = Agent(town.gateway.http, await town.gateway.key(ada, "events:write"))
    for name, host in (("b1", "laptop"), ("b2", "laptop"), ("b3", "!local")):
        await agent.ask("POST", f"/buckets/{name}", json=WINDOW | {"hostname": host})
    reply = await town.gateway.http.get("/v1/devices", headers=ada.headers)
    assert sorted(device["name"] for device in reply.json()["items"]) == ["laptop", "local"]


async def test_the_extensions_of_browsers_may_call_and_pages_may_not(
    town: Neighbourhood, agent: Agent
) -> None:
    extension = "chrome-extension://nglaklhklhcoonedhgnpgddginnjdadi"
    asked = await town.gateway.http.options(
        "/api/0/buckets/b1", headers={"origin": extension, "access-control-request-method": "POST"}
    )
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == extension
    assert "authorization" in asked.headers["access-control-allow-headers"]
    for path in ("/buckets", "/buckets/none"):
        reply = await agent.ask("GET", path, headers={"origin": extension})
        assert reply.headers["access-control-allow-origin"] == extension, path
    page = await agent.ask("GET", "/buckets", headers={"origin": "https://example.com"})
    assert "access-control-allow-origin" not in page.headers


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where aw-client keeps its configuration, queue and locks."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    return tmp_path


@contextmanager
def aw_client(listen: str, key: str) -> Iterator[ActivityWatchClient]:
    """An unmodified client, its key in the host name, with its queue running."""
    host, _, port = listen.partition(":")
    client = ActivityWatchClient("aw-watcher-test", host=f"org:{key}@{host}", port=port)
    client.client_hostname = "laptop"
    try:
        yield client
    finally:
        if client.request_queue.is_alive():
            client.disconnect()


def watch(client: ActivityWatchClient, count: int) -> None:
    """A window watcher and an AFK watcher, `count` changes of window."""
    client.create_bucket("aw-watcher-window_laptop", "currentwindow", queued=True)
    client.create_bucket("aw-watcher-afk_laptop", "afkstatus", queued=True)
    for n in range(count + 1):
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


async def test_the_unmodified_client_works_from_one_end_to_the_other(
    town: Neighbourhood, ada: Person, home: Path
) -> None:
    key = await town.gateway.key(ada, "read", "events:write")
    with aw_client(town.gateway.settings.listen, key) as client:
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
            await asyncio.sleep(3)
            assert not held.done()
            async with process(build_ingest, settings):
                assert (await held).status_code == 200
                await eventually(lambda: count_of(agent, 8), within=20)
    await servers.drop_database(own)
    await servers.drop_database(events)


def watch_again(client: ActivityWatchClient) -> None:
    for n in range(4):
        window = Event(timestamp=NOW + timedelta(seconds=1000 + 20 * n), data={"app": f"late {n}"})
        client.heartbeat("aw-watcher-window_laptop", window, pulsetime=15, queued=True)


async def count_of(agent: Agent, expected: int) -> bool:
    reply = await agent.ask("GET", "/buckets/aw-watcher-window_laptop/events/count")
    return reply.text == str(expected)
