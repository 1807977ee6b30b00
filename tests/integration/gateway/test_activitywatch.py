"""ActivityWatch's interface through the real gateway and the real ingest."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.gateway.conftest import Person
from tests.integration.gateway.neighbours import Neighbourhood, neighbourhood
from tests.integration.gateway.watchers import NOW, WINDOW, Agent, at
from tests.support.servers import Stores

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(servers: Stores, tracing: None) -> AsyncIterator[Neighbourhood]:
    async with neighbourhood(servers) as started:
        yield started


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
