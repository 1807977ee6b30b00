"""API keys: made once, scoped, expiring, revocable, in either form."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.integration.gateway.conftest import Gateway
from tests.support.eventually import eventually

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

EVENT = {"start": "2026-01-19T10:00:00Z", "duration": 5}
POST = {"device_id": "laptop", "source": "test", "events": [EVENT]}


@pytest.mark.parametrize("form", ["tl", "uuid"])
async def test_a_key_is_shown_once_and_kept_as_a_hash(gateway: Gateway, form: str) -> None:
    owner = await gateway.register()
    key = await gateway.key(owner, "read", "events:write", format=form)
    if form == "uuid":
        assert UUID(key).version == 4
    else:
        assert key.startswith("tl_")
    listed = (await gateway.http.get("/v1/api-keys", headers=owner.headers)).json()["items"]
    assert [one["key"] for one in listed] == [None]
    (row,) = await gateway.query("SELECT * FROM api_keys WHERE user_id = $1", owner.id)
    assert key not in str(dict(row))
    for headers in (
        {"authorization": f"Bearer {key}"},
        {"x-api-key": key},
        {"authorization": "Basic " + base64.b64encode(f"user:{key}".encode()).decode()},
        {"authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()},
        {"authorization": "Basic " + base64.b64encode(key.encode()).decode()},
    ):
        assert (await gateway.http.get("/v1/me", headers=headers)).status_code == 200
        assert (await gateway.http.post("/v1/events", json=POST, headers=headers)).is_success


async def test_scopes_bound_what_a_key_may_do(gateway: Gateway) -> None:
    owner = await gateway.register()
    read = {"x-api-key": await gateway.key(owner, "read")}
    write = {"x-api-key": await gateway.key(owner, "events:write")}
    assert (await gateway.http.get("/v1/events", headers=read)).status_code == 200
    assert (await gateway.http.post("/v1/events", json=POST, headers=read)).status_code == 403
    assert (await gateway.http.get("/v1/events", headers=write)).status_code == 403
    assert (await gateway.http.get("/v1/sessions?date=today", headers=write)).status_code == 403


async def test_a_key_can_not_manage_accounts(gateway: Gateway) -> None:
    owner = await gateway.register()
    headers = {"x-api-key": await gateway.key(owner, "read", "events:write", "jobs:write")}
    tries = [
        ("POST", "/v1/api-keys", {"name": "more", "scopes": ["read"]}),
        ("GET", "/v1/api-keys", None),
        ("PATCH", "/v1/me", {"name": "Machine"}),
        ("DELETE", "/v1/me", {"password": "whatever"}),
        ("GET", "/v1/me/export", None),
        ("POST", "/v1/invitations", {"email": "x@example.com"}),
        ("GET", "/v1/audit", None),
        ("PATCH", f"/v1/users/{owner.id}", {"role": "member"}),
        ("POST", "/v1/auth/logout", None),
    ]
    for method, path, body in tries:
        reply = await gateway.http.request(method, path, json=body, headers=headers)
        assert reply.status_code == 403, (method, path, reply.text)


async def test_revoked_expired_and_made_up_keys_are_refused(gateway: Gateway) -> None:
    owner = await gateway.register()
    made = await gateway.http.post(
        "/v1/api-keys", json={"name": "k", "scopes": ["read"]}, headers=owner.headers
    )
    key, url = made.json()["key"], f"/v1/api-keys/{made.json()['id']}"
    headers = {"x-api-key": key}
    assert (await gateway.http.get("/v1/me", headers=headers)).status_code == 200
    assert (await gateway.http.delete(url, headers=owner.headers)).status_code == 204
    assert (await gateway.http.get("/v1/me", headers=headers)).status_code == 401
    assert (await gateway.http.delete(url, headers=owner.headers)).status_code == 204

    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    refused = await gateway.http.post(
        "/v1/api-keys",
        json={"name": "k", "scopes": ["read"], "expires_at": past},
        headers=owner.headers,
    )
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "expires_at"
    made_up = [key[:-1] + "#", key[:-1], key + "x", key.upper(), "tl_000000000000_" + "x" * 43]
    for text in [*made_up, "00000000-0000-4000-8000-000000000000", "nonsense", "a.b.c", "ü"]:
        refused = await gateway.http.get("/v1/me", headers=[(b"x-api-key", text.encode())])
        assert refused.status_code == 401, text


async def test_somebody_elses_key_does_not_exist(gateway: Gateway) -> None:
    owner, stranger = await gateway.register(), await gateway.register()
    admin, member = await gateway.join(owner, "admin"), await gateway.join(owner, "member")
    made = await gateway.http.post(
        "/v1/api-keys", json={"name": "k", "scopes": ["read"]}, headers=owner.headers
    )
    url = f"/v1/api-keys/{made.json()['id']}"
    for who in (stranger, member):
        assert (await gateway.http.delete(url, headers=who.headers)).status_code == 404
    assert (await gateway.http.delete(url, headers=admin.headers)).status_code == 204


async def test_uses_of_keys_and_devices_are_noted(gateway: Gateway) -> None:
    owner = await gateway.register()
    headers = {"x-api-key": await gateway.key(owner, "read", "events:write")}
    assert (await gateway.http.post("/v1/events", json=POST, headers=headers)).is_success
    devices = (await gateway.http.get("/v1/devices", headers=headers)).json()["items"]
    assert [device["device_id"] for device in devices] == ["laptop"]

    async def used() -> bool:
        keys = (await gateway.http.get("/v1/api-keys", headers=owner.headers)).json()["items"]
        return keys[0]["last_used_at"] is not None

    await eventually(used, within=10)
