"""Whatever is wrong, the answer is a problem that says what, and never a 5xx."""

import asyncio
from typing import Any

import httpx
import jwt
import pytest

from chassis.clock import SystemClock
from chassis.identity import InternalSigner, Principal, load_private_key
from tests.integration.gateway.conftest import Gateway, Person, running
from tests.support.eventually import eventually
from tests.support.servers import Stores

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


def check(reply: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Whether a reply is the problem it should be."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = reply.json()
    assert set(problem) == {"type", "title", "status", "detail", "errors", "trace_id"}
    assert problem["type"] == f"urn:timeloom:problem:{kind}"
    assert problem["status"] == status
    assert len(problem["trace_id"]) == 32
    assert problem["title"]
    return problem


async def test_unknown_paths_and_methods_are_problems(gateway: Gateway) -> None:
    for path in ("/nope", "/v1/nope", "/v1/me/nope", "/openapi", "/v1/runs/not-a-uuid"):
        check(await gateway.http.get(path), 404, "not_found")
    reply = await gateway.http.put("/v1/events")
    check(reply, 405, "method_not_allowed")
    assert "POST" in reply.headers["allow"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"email": ',
        b"\xff\xfe",
        b'{"email": "\xff"}',
        b'{"email":"a@example.com"} trailing',
        b"[" * 50_000,
        b'{"a":' * 50_000,
    ],
)
async def test_malformed_json_is_refused_as_such(
    gateway: Gateway, owner: Person, content: bytes
) -> None:
    for path in ("/v1/auth/login", "/v1/events", "/v1/api-keys"):
        reply = await gateway.http.post(path, content=content, headers=owner.headers)
        assert reply.status_code in {400, 422}, (path, reply.text)
        assert reply.headers["content-type"] == "application/problem+json"
        if content in {b"{", b'{"email": '}:
            check(reply, 400, "malformed")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/auth/login", {"email": "a@example.com"}, "password"),
        ("/v1/auth/login", {"email": 1, "password": "x"}, "email"),
        ("/v1/auth/login", {"email": "a@example.com", "password": "x", "role": "owner"}, "role"),
        ("/v1/auth/login", {"email": "a\0@example.com", "password": "x"}, "email"),
        ("/v1/auth/login", {"email": "a@b.c", "password": "x", "organization_id": "1"}, None),
        ("/v1/auth/register", {"email": "not an address"}, None),
        ("/v1/api-keys", {"name": "", "scopes": ["read"]}, "name"),
        ("/v1/api-keys", {"name": "k", "scopes": []}, "scopes"),
        ("/v1/api-keys", {"name": "k", "scopes": ["root"]}, "scopes[0]"),
        ("/v1/api-keys", {"name": "k", "scopes": ["read"], "expires_at": "2030-01-01"}, None),
        ("/v1/api-keys", {"name": "k", "scopes": ["read"], "expires_at": 5}, "expires_at"),
        ("/v1/invitations", {"email": "x@example.com", "role": "god"}, "role"),
        ("/v1/invitations", {"email": "x@example.com", "guest_days": 10**30}, "guest_days"),
        ("/v1/schedules/x/trigger", {"args": []}, "args"),
        ("/v1/ops/dead-letters/replay", {"ids": []}, "ids"),
        ("/v1/ops/dead-letters/replay", {"ids": ["x"]}, "ids[0]"),
    ],
)
async def test_wrong_fields_are_named(
    gateway: Gateway, owner: Person, path: str, body: dict[str, Any], field: str | None
) -> None:
    reply = await gateway.http.post(path, json=body, headers=owner.headers)
    problem = check(reply, 422, "invalid")
    assert problem["errors"]
    if field is not None:
        assert problem["errors"][0]["field"] == field


async def test_an_address_that_is_none_is_named(gateway: Gateway) -> None:
    body = {
        "email": "nobody at example",
        "password": "long enough",
        "name": "N",
        "organization_name": "O",
    }
    problem = check(await gateway.http.post("/v1/auth/register", json=body), 422, "invalid")
    assert problem["errors"][0]["field"] == "email"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/events?from=2026-01-01T00:00:00Z", "to"),
        ("/v1/events?from=yesterday&to=today", "from"),
        ("/v1/events?from=2026-01-01T00:00:00&to=2026-01-02T00:00:00", "from"),
        ("/v1/events?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("/v1/events?limit=many", "limit"),
        ("/v1/events?device_id=" + "x" * 101, "device_id"),
        ("/v1/sessions", "date"),
        ("/v1/sessions?date=2026-02-30", "date"),
        ("/v1/sessions?date=2026-W01-1", "date"),
        ("/v1/sessions?date=today&kind=busy", "kind"),
        ("/v1/sessions?date=today&user_id=me", "user_id"),
        ("/v1/days", "from"),
        ("/v1/days?from=2026-01-01", "to"),
        ("/v1/days?from=2026-01-01&to=tomorrow", "to"),
        ("/v1/days/yesterday", "date"),
        ("/v1/timeline", "from"),
        ("/v1/runs?state=walking", "state"),
    ],
)
async def test_wrong_parameters_are_named(
    gateway: Gateway, owner: Person, path: str, field: str
) -> None:
    problem = check(await gateway.http.get(path, headers=owner.headers), 422, "invalid")
    assert problem["errors"][0]["field"] == field


async def test_nul_in_an_address_is_refused(gateway: Gateway, owner: Person) -> None:
    for path in ("/v1/sessions?date=today&category=a%00b", "/v1/days/%00"):
        reply = await gateway.http.get(path, headers=owner.headers)
        check(reply, 422, "invalid")


async def test_a_body_beyond_the_limit_is_refused_without_being_kept(
    gateway: Gateway, owner: Person
) -> None:
    chunk = b" " * 65_536
    sent = 0

    async def fifty_megabytes() -> Any:
        nonlocal sent
        for _ in range(800):
            sent += len(chunk)
            yield chunk

    declared = {"content-length": str(800 * len(chunk))}
    for headers in (owner.headers, owner.headers | declared):
        for path in ("/v1/events", "/v1/api-keys"):
            reply = await gateway.http.post(path, content=fifty_megabytes(), headers=headers)
            check(reply, 413, "too_large")
    keyed = owner.headers | {"idempotency-key": "big"}
    reply = await gateway.http.post("/v1/api-keys", content=fifty_megabytes(), headers=keyed)
    check(reply, 413, "too_large")


async def test_missing_and_foreign_credentials_are_refused(gateway: Gateway, owner: Person) -> None:
    key = load_private_key(gateway.settings.token_private_key_file)
    internal = InternalSigner(key, SystemClock()).token_for(
        Principal(org_id=owner.org_id, user_id=owner.id, role="owner")  # type: ignore[arg-type]
    )
    claims = jwt.decode(owner.access_token, options={"verify_signature": False})
    expired = jwt.encode(claims | {"exp": 1_700_000_000}, key, algorithm="EdDSA")
    other_key = jwt.encode(claims, "secret" * 10, algorithm="HS256")
    none = jwt.encode(claims, "", algorithm="none")
    bare = jwt.encode({"aud": "timeloom", "exp": 4_000_000_000}, key, algorithm="EdDSA")
    for headers in (
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic !!!"},
        {"authorization": "Digest x"},
        *({"authorization": f"Bearer {token}"} for token in (internal, expired, other_key)),
        *({"authorization": f"Bearer {token}"} for token in (none, bare, owner.refresh_token)),
    ):
        reply = await gateway.http.get("/v1/me", headers=headers)
        problem = check(reply, 401, "unauthenticated")
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert problem["detail"]


async def test_too_many_tries_say_when_to_come_back(
    gateway: Gateway, servers: Stores, owner: Person
) -> None:
    async with running(servers, gateway.dsn, sign_ins_per_minute=3) as strict:
        body = {"email": owner.email, "password": "wrong"}
        for _ in range(3):
            check(await strict.http.post("/v1/auth/login", json=body), 401, "unauthenticated")
        refused = await strict.http.post("/v1/auth/login", json=body)
        check(refused, 429, "exhausted")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        other = await strict.http.post("/v1/auth/login", json=body | {"email": "b@example.com"})
        check(other, 401, "unauthenticated")


async def test_an_address_that_guesses_credentials_is_slowed_down(
    gateway: Gateway, servers: Stores
) -> None:
    async with running(servers, gateway.dsn, bad_credentials_per_minute=2) as strict:
        headers = {"x-api-key": "guess"}
        for _ in range(2):
            check(await strict.http.get("/v1/me", headers=headers), 401, "unauthenticated")
        check(await strict.http.get("/v1/me", headers=headers), 429, "exhausted")


async def test_one_credential_can_not_take_everything(
    gateway: Gateway, servers: Stores, owner: Person
) -> None:
    async with running(servers, gateway.dsn, requests_per_second=2) as strict:
        replies = [await strict.http.get("/v1/me", headers=owner.headers) for _ in range(20)]
        assert {reply.status_code for reply in replies} == {200, 429}


async def test_every_answer_carries_the_same_headers(gateway: Gateway) -> None:
    for path in ("/livez", "/nope", "/v1/me", "/docs", "/"):
        reply = await gateway.http.get(path, headers={"x-request-id": "abc-123"})
        assert reply.headers["x-request-id"] == "abc-123"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["cache-control"] == "no-store"
        assert "server" not in reply.headers
    odd = await gateway.http.get("/livez", headers={"x-request-id": "a b"})
    assert odd.headers["x-request-id"] != "a b"


async def test_a_client_that_leaves_early_disturbs_nobody(gateway: Gateway, owner: Person) -> None:
    host, _, port = gateway.settings.listen.rpartition(":")
    for _ in range(3):
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 999\r\nauthorization: Bearer {owner.access_token}\r\n\r\n{{"
        writer.write(head.encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await gateway.http.get("/v1/me", headers=owner.headers)).status_code == 200


async def test_browsers_may_call_from_allowed_origins_only(
    gateway: Gateway, servers: Stores
) -> None:
    async with running(servers, gateway.dsn, cors_origins="https://app.example") as open_one:
        for origin, allowed in (("https://app.example", True), ("https://evil.example", False)):
            asked = {"origin": origin, "access-control-request-method": "POST"}
            preflight = await open_one.http.options("/v1/events", headers=asked)
            said = preflight.headers.get("access-control-allow-origin")
            assert (said == origin) is allowed
            refused = await open_one.http.post("/v1/events", headers={"origin": origin})
            check(refused, 401, "unauthenticated")
            assert (refused.headers.get("access-control-allow-origin") == origin) is allowed
    plain = await gateway.http.get("/livez", headers={"origin": "https://app.example"})
    assert "access-control-allow-origin" not in plain.headers


async def test_when_full_more_are_told_to_come_back(
    gateway: Gateway, servers: Stores, owner: Person
) -> None:
    async with running(servers, gateway.dsn, max_requests=1) as small:
        host, _, port = small.settings.listen.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()

        async def is_full() -> bool:
            return (await small.http.get("/livez")).status_code == 503

        await eventually(is_full)
        refused = await small.http.get("/v1/me", headers=owner.headers)
        check(refused, 503, "unavailable")
        assert refused.headers["retry-after"] == "2"
        writer.close()
        await writer.wait_closed()

        async def has_room() -> bool:
            return (await small.http.get("/livez")).status_code == 200

        await eventually(has_room)
