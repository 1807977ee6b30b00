"""Live messages through the real gateway, realtime and NATS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from websockets.exceptions import InvalidStatus

from services.gateway.hub import MAX_CONNECTIONS_PER_USER
from tests.integration.gateway.conftest import Person
from tests.integration.gateway.neighbours import Neighbourhood, neighbourhood, socket
from tests.support.eventually import eventually
from tests.support.servers import Stores

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(servers: Stores, tracing: None) -> AsyncIterator[Neighbourhood]:
    async with neighbourhood(servers) as started:
        yield started


async def test_a_message_reaches_its_person_and_nobody_else(town: Neighbourhood) -> None:
    ada, ben = await town.gateway.register(), await town.gateway.register()
    async with socket(town, ada) as hers, socket(town, ben) as his:
        assert (await hers.subscribe())["recovered"] is True
        await his.subscribe()
        await town.tell(ada, {"n": 1})
        await town.tell(ben, {"n": 2})
        assert (await hers.hear(event="note"))["data"] == {"n": 1}
        assert (await his.hear(event="note"))["data"] == {"n": 2}


async def test_who_comes_back_gets_what_they_missed(town: Neighbourhood) -> None:
    ada = await town.gateway.register()
    async with socket(town, ada) as first:
        await first.subscribe()
        await town.tell(ada, 1)
        position = (await first.hear(event="note"))["position"]
    for n in range(2, 303):
        await town.tell(ada, n)
    async with socket(town, ada) as second:
        assert (await second.subscribe(since=position))["recovered"] is True
        await town.tell(ada, 303)
        heard = [(await second.hear(event="note"))["data"] for _ in range(302)]
    assert heard == list(range(2, 304))


async def test_an_unknown_position_is_not_recovered(town: Neighbourhood) -> None:
    ada = await town.gateway.register()
    async with socket(town, ada) as one:
        assert (await one.subscribe(since="another-life:7"))["recovered"] is False


async def test_a_member_may_not_watch_the_organization(town: Neighbourhood) -> None:
    owner = await town.gateway.register()
    member = await town.gateway.join(owner, "member")
    async with socket(town, owner) as above, socket(town, member) as below:
        assert (await above.subscribe("org"))["channel"] == "org"
        await below.say(type="subscribe", channel="org")
        error = await below.hear("error")
        assert (error["code"], error["channel"]) == ("forbidden", "org")
        await below.say(type="ping")
        assert await below.hear() == {"type": "pong"}


async def test_a_revoked_key_is_cut_off_and_other_credentials_stay(town: Neighbourhood) -> None:
    ada = await town.gateway.register()
    key = await town.gateway.key(ada, "read")
    async with (
        socket(town, headers={"x-api-key": key}) as machine,
        socket(town, ada) as person,
    ):
        await machine.subscribe()
        keys = (await town.gateway.http.get("/v1/api-keys", headers=ada.headers)).json()["items"]
        reply = await town.gateway.http.delete(f"/v1/api-keys/{keys[0]['id']}", headers=ada.headers)
        assert reply.status_code == 204
        assert await machine.hear("bye") == {"type": "bye", "code": 3503, "reconnect": False}
        assert await machine.closed() == 3503
        await person.say(type="ping")
        assert (await person.hear("pong"))["type"] == "pong"


async def test_a_suspended_person_is_cut_off(town: Neighbourhood) -> None:
    owner = await town.gateway.register()
    member = await town.gateway.join(owner, "member")
    async with socket(town, member) as theirs:
        await theirs.subscribe()
        reply = await town.gateway.http.patch(
            f"/v1/users/{member.id}", json={"suspended": True}, headers=owner.headers
        )
        assert reply.status_code == 200
        assert await theirs.closed() == 3503


async def test_a_demoted_manager_stops_hearing_about_the_organization(
    town: Neighbourhood,
) -> None:
    owner = await town.gateway.register()
    manager = await town.gateway.join(owner, "manager")
    async with socket(town, manager) as theirs:
        await theirs.subscribe("org")
        reply = await town.gateway.http.patch(
            f"/v1/users/{manager.id}", json={"role": "member"}, headers=owner.headers
        )
        assert reply.status_code == 200
        assert (await theirs.hear("error"))["code"] == "forbidden"


async def test_without_a_credential_the_handshake_fails_with_401(town: Neighbourhood) -> None:
    wrong: list[dict[str, str]] = [{}, {"authorization": "Bearer nonsense"}]
    for headers in wrong:
        with pytest.raises(InvalidStatus) as caught:
            async with socket(town, headers=headers):
                pass
        response = caught.value.response
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_ticket_opens_one_connection_on_whatever_path(town: Neighbourhood) -> None:
    ada = await town.gateway.register()
    reply = await town.gateway.http.post("/v1/live/tickets", headers=ada.headers)
    assert reply.status_code == 201
    ticket = reply.json()["ticket"]
    async with socket(town, ticket=ticket) as first:
        await first.subscribe()
        async with socket(town, ticket=ticket) as second:
            assert await second.hear() == {"type": "bye", "code": 4401, "reconnect": False}
            assert await second.closed() == 4401
        again = await town.gateway.http.get(f"/v1/live/sse?ticket={ticket}")
        assert again.status_code == 401
        await first.say(type="ping")
        assert (await first.hear("pong"))["type"] == "pong"
    assert (
        await town.gateway.query("SELECT 1 FROM live_tickets WHERE org_id = $1", ada.org_id) == []
    )


async def test_writers_may_not_listen(town: Neighbourhood) -> None:
    ada = await town.gateway.register()
    writer = {"x-api-key": await town.gateway.key(ada, "events:write")}
    with pytest.raises(InvalidStatus) as caught:
        async with socket(town, headers=writer):
            pass
    assert caught.value.response.status_code == 403
    for method, path in (
        ("GET", "/v1/live/sse"),
        ("POST", "/v1/live/tickets"),
        ("GET", "/v1/presence"),
    ):
        reply = await town.gateway.http.request(method, path, headers=writer)
        assert reply.status_code == 403, path


async def test_presence_comes_and_goes_with_connections(town: Neighbourhood) -> None:
    owner = await town.gateway.register()
    member = await town.gateway.join(owner, "member")

    async def states() -> dict[str, str]:
        reply = await town.gateway.http.get("/v1/presence", headers=owner.headers)
        assert reply.status_code == 200
        return {one["user_id"]: one["state"] for one in reply.json()["items"]}

    async with socket(town, owner) as above:
        await above.subscribe("org")
        async with socket(town, member) as theirs:
            changed = await above.hear(event="presence.changed")
            while changed["data"]["user_id"] != member.id:
                changed = await above.hear(event="presence.changed")
            assert changed["data"]["state"] == "online"
            await theirs.say(type="presence", state="away")
            await eventually(lambda: _is(states, {member.id: "away", owner.id: "online"}))
        await eventually(lambda: _is(states, {owner.id: "online"}), within=10)


async def _is(ask: Any, expected: dict[str, str]) -> bool:
    found = await ask()
    online = {user: state for user, state in found.items() if state != "offline"}
    return bool(online == expected)


class Events:
    """Reads server-sent events."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Id and frame of the next event."""
        id_ = ""
        async with asyncio.timeout(10):
            async for line in self._lines:
                if line.startswith("id: "):
                    id_ = line[4:]
                elif line.startswith("data: "):
                    return id_, msgspec.json.decode(line[6:])
        raise AssertionError("the stream ended")


@asynccontextmanager
async def event_source(
    http: httpx.AsyncClient, person: Person, path: str = "/v1/live/sse", **headers: str
) -> AsyncIterator[Events]:
    async with http.stream("GET", path, headers=person.headers | headers) as reply:
        yield Events(reply)


async def test_server_sent_events_resume_by_last_event_id(town: Neighbourhood) -> None:
    ada = await town.gateway.register()
    async with event_source(town.gateway.http, ada) as first:
        assert first.response.headers["content-type"].startswith("text/event-stream")
        assert (await first.next())[1]["type"] == "subscribed"
        await town.tell(ada, 1)
        id_, frame = await first.next()
        while frame.get("event") != "note":
            id_, frame = await first.next()
        assert (id_, frame["data"]) == (frame["position"], 1)
    await town.tell(ada, 2)
    async with event_source(town.gateway.http, ada, **{"last-event-id": id_}) as second:
        assert (await second.next())[1]["recovered"] is True
        frame = (await second.next())[1]
        while frame.get("event") != "note":
            frame = (await second.next())[1]
        assert frame["data"] == 2
    async with event_source(town.gateway.http, ada, **{"last-event-id": "garbage"}) as third:
        assert (await third.next())[1]["recovered"] is False


async def test_what_a_stream_is_refused_is_a_problem(town: Neighbourhood) -> None:
    owner = await town.gateway.register()
    member = await town.gateway.join(owner, "member")
    for path, status in (
        ("/v1/live/sse?channel=org", 403),
        ("/v1/live/sse?channel=ctl", 422),
        ("/v1/live/sse?since=garbage", 422),
        ("/v1/live/sse?ticket=garbage", 401),
    ):
        reply = await town.gateway.http.get(path, headers=member.headers)
        assert reply.status_code == status, path
        assert reply.headers["content-type"] == "application/problem+json"


async def test_streams_are_limited_and_those_that_leave_make_room(town: Neighbourhood) -> None:
    ada = await town.gateway.register()
    async with AsyncExitStack() as stack:
        # Kept, since a reader that is collected closes its stream.
        readers = [
            await stack.enter_async_context(event_source(town.gateway.http, ada))
            for _ in range(MAX_CONNECTIONS_PER_USER)
        ]
        for reader in readers:
            await reader.next()
        refused = await town.gateway.http.get("/v1/live/sse", headers=ada.headers)
        assert refused.status_code == 429

    async def may_enter() -> bool:
        async with event_source(town.gateway.http, ada) as events:
            return events.response.status_code == 200

    await eventually(may_enter)


async def test_the_interface_describes_itself(town: Neighbourhood) -> None:
    paths = (await town.gateway.http.get("/openapi.json")).json()["paths"]
    stream = paths["/v1/live/sse"]["get"]["responses"]["200"]
    assert list(stream["content"]) == ["text/event-stream"]
    assert "post" in paths["/v1/live/tickets"]
    assert "get" in paths["/v1/presence"]
