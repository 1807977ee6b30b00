"""Which doors are open: every route of /v1 asks who is there, but for those that say otherwise."""

import re

import pytest

from protos.common.v1.types_pb2 import PageInfo
from protos.ingest.v1 import ingest_pb2 as ingest
from protos.sessions.v1 import sessions_pb2 as sessions
from tests.integration.gateway.conftest import Gateway, Person

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

OPEN = {
    ("post", "/v1/auth/register"),
    ("post", "/v1/auth/login"),
    ("post", "/v1/auth/refresh"),
    ("post", "/v1/invitations/accept"),
}
SOME_ID = "0196f0c0-0000-7000-8000-000000000001"


async def test_every_route_asks_for_a_credential(gateway: Gateway) -> None:
    schema = (await gateway.http.get("/openapi.json")).json()
    found = set()
    for path, operations in schema["paths"].items():
        for method in operations:
            if not path.startswith("/v1/") or (method, path) in OPEN:
                continue
            found.add((method, path))
            url = re.sub(r"\{[^}]+\}", SOME_ID, path) + "?from=2026-01-01&to=2026-01-02"
            reply = await gateway.http.request(method, url)
            assert reply.status_code == 401, (method, path, reply.text)
    assert len(found) > 25


async def test_what_is_open_says_so_in_the_description(gateway: Gateway) -> None:
    paths = (await gateway.http.get("/openapi.json")).json()["paths"]
    said = {
        (method, path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if path.startswith("/v1/") and operation.get("security") == [{}]
    }
    assert said == OPEN


async def test_ids_of_other_organizations_lead_nowhere(gateway: Gateway) -> None:
    ours, theirs = await gateway.register(), await gateway.register()
    member = await gateway.join(theirs, "member")
    key = await gateway.http.post(
        "/v1/api-keys", json={"name": "k", "scopes": ["read"]}, headers=theirs.headers
    )
    invitation = await gateway.http.post(
        "/v1/invitations", json={"email": "i@example.com"}, headers=theirs.headers
    )
    tries = [
        ("PATCH", f"/v1/users/{member.id}", {"role": "guest"}),
        ("DELETE", f"/v1/api-keys/{key.json()['id']}", None),
        ("DELETE", f"/v1/invitations/{invitation.json()['id']}", None),
    ]
    for method, path, body in tries:
        reply = await gateway.http.request(method, path, json=body, headers=ours.headers)
        assert reply.status_code == 404, (path, reply.text)
    for path in ("/v1/api-keys", "/v1/devices"):
        reply = await gateway.http.get(f"{path}?user_id={member.id}", headers=ours.headers)
        assert reply.json()["items"] == []
    audit = (await gateway.http.get("/v1/audit", headers=ours.headers)).json()["items"]
    assert {entry["actor_id"] for entry in audit} == {ours.id}


async def test_the_tenant_of_a_call_is_that_of_the_credential(gateway: Gateway) -> None:
    ours, theirs = await gateway.register(), await gateway.register()
    for person in (ours, theirs):
        headers = person.headers | {"x-org-id": theirs.org_id}
        await gateway.http.get(f"/v1/events?org_id={theirs.org_id}", headers=headers)
        by, _ = gateway.services.last(ingest.ListEventsRequest)
        assert (str(by.org_id), str(by.user_id)) == (person.org_id, person.id)


async def test_an_export_is_whole_however_many_pages_it_takes(
    gateway: Gateway, owner: Person
) -> None:
    await gateway.key(owner, "read")

    def events(request: ingest.ListEventsRequest) -> ingest.ListEventsResponse:
        page = int(request.page.cursor or "0")
        found = [ingest.StoredEvent(event_id=f"{page}-{n}", device_id=SOME_ID) for n in range(3)]
        more = str(page + 1) if page < 2 else ""
        return ingest.ListEventsResponse(events=found, page=PageInfo(next_cursor=more))

    gateway.services.answers[ingest.ListEventsRequest] = events
    gateway.services.answers[sessions.ListSessionsRequest] = lambda _: (
        sessions.ListSessionsResponse(sessions=[sessions.Session(id="s")])
    )
    reply = await gateway.http.get("/v1/me/export", headers=owner.headers)
    gateway.services.forget()
    assert "attachment" in reply.headers["content-disposition"]
    document = reply.json()
    assert document["user"]["email"] == owner.email
    assert [event["id"] for event in document["events"]] == [
        f"{page}-{n}" for page in range(3) for n in range(3)
    ]
    assert [session["id"] for session in document["sessions"]] == ["s"]
    assert [key["key"] for key in document["api_keys"]] == [None]
