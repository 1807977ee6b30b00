"""Credentials that are no good, or no good any more: refused everywhere, and within seconds."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from uuid import uuid4

import httpx
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chassis.clock import SystemClock
from chassis.identity import INTERNAL_AUDIENCE, load_private_key
from services.gateway.tokens import TICKET_AUDIENCE
from tests.support.eventually import eventually
from tests.support.house import frame
from tests.support.people import Live, Person, event
from tests.support.problems import assert_problem
from tests.support.servers import Suite

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

REVOKED: Final = 3503
Claims = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def eve(suite: Suite) -> AsyncIterator[Person]:
    person = await Person.register(suite.url)
    yield person
    await person.close()


def claims_of(person: Person) -> Claims:
    """What the person's token says."""
    return dict(jwt.decode(person.token, options={"verify_signature": False}))


def signed(suite: Suite, claims: Claims) -> str:
    """A token that the gateway would have signed, had it been out of its mind."""
    key = load_private_key(suite.credentials.token_private_key)
    return jwt.encode(claims, key, algorithm="EdDSA")


def unsigned(claims: Claims) -> str:
    return jwt.encode(claims, "", algorithm="none")


def signed_with_the_public_key(suite: Suite, claims: Claims) -> str:
    """HS256 under the text of the public key: what a verifier that trusts `alg` falls for."""

    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signing = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    secret = suite.credentials.token_public_key.read_bytes()
    signature = hmac.new(secret, signing, hashlib.sha256).digest()
    return (signing + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def tampered(token: str) -> str:
    """Another subject under the same signature."""
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = str(uuid4())
    other = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{head}.{other}.{signature}"


def now() -> int:
    return SystemClock().now_us() // 1_000_000


TOKENS: Final[dict[str, Callable[[Suite, Person], str]]] = {
    "expired": lambda s, p: signed(s, claims_of(p) | {"iat": now() - 901, "exp": now() - 1}),
    "of a foreign key": lambda _, p: jwt.encode(
        claims_of(p), Ed25519PrivateKey.generate(), algorithm="EdDSA"
    ),
    "without a signature": lambda _, p: unsigned(claims_of(p)),
    "signed with the public key": lambda s, p: signed_with_the_public_key(s, claims_of(p)),
    "for the services": lambda s, p: signed(
        s, claims_of(p) | {"aud": INTERNAL_AUDIENCE, "role": "owner", "scopes": ["read"]}
    ),
    "for one live connection": lambda s, p: signed(s, claims_of(p) | {"aud": TICKET_AUDIENCE}),
    "for nobody": lambda s, p: signed(s, {k: v for k, v in claims_of(p).items() if k != "aud"}),
    "that never ends": lambda s, p: signed(
        s, {k: v for k, v in claims_of(p).items() if k != "exp"}
    ),
    "that ends some day": lambda s, p: signed(s, claims_of(p) | {"exp": "some day"}),
    "of another organization": lambda s, p: signed(s, claims_of(p) | {"org": str(uuid4())}),
    "of another person": lambda s, p: signed(s, claims_of(p) | {"sub": str(uuid4())}),
    "of an unknown sign-in": lambda s, p: signed(s, claims_of(p) | {"cred": str(uuid4())}),
    "of no sign-in": lambda s, p: signed(s, claims_of(p) | {"cred": "*"}),
    "with changed claims": lambda _, p: tampered(p.token),
    "cut off": lambda _, p: p.token[:-10],
    "that is a refresh token": lambda _, p: str(p.tokens["refresh_token"]),
    "that is an unknown key": lambda _s, _p: f"tl_{'0' * 12}_{'A' * 40}",
    "that is an unknown UUID": lambda _s, _p: str(uuid4()),
    "that is an id": lambda _, p: p.id,
    "that is nothing": lambda _s, _p: ".",
    "that is much": lambda _s, _p: "x" * 7_000,
}


@pytest.mark.parametrize("name", TOKENS)
async def test_a_bad_token_opens_nothing(suite: Suite, eve: Person, name: str) -> None:
    token = TOKENS[name](suite, eve)
    bearer = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=suite.url, timeout=30) as client:
        for method, path in (
            ("GET", "/v1/me"),
            ("POST", "/v1/events"),
            ("GET", "/v1/live/sse"),
            ("GET", "/v1/runs"),
        ):
            reply = await client.request(method, path, headers=bearer)
            assert_problem(reply, 401)
            assert reply.headers["www-authenticate"].startswith("Bearer")
            # Only the holder of a token may learn what it says.
            assert eve.email not in reply.text
        assert (await client.get("/v1/me", headers={"X-API-Key": token})).status_code == 401
        assert (await client.get("/api/0/buckets", auth=("me", token))).status_code == 401
    assert await handshake_refused(suite, bearer) == 401


async def handshake_refused(suite: Suite, headers: dict[str, str]) -> int:
    """The status with which a WebSocket is refused."""
    address = suite.url.replace("http", "ws", 1) + "/v1/live"
    with pytest.raises(InvalidStatus) as refused:
        await connect(address, additional_headers=headers)
    return int(refused.value.response.status_code)


async def parting(live: Live) -> dict[str, Any]:
    """The goodbye of the gateway, which closes with the same code."""
    bye = await live.until(lambda message: message["type"] == "bye", seconds=10)
    with pytest.raises(ConnectionClosed) as closed:
        await live.until(lambda _: False, seconds=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == bye["code"]
    return bye


async def made_key(person: Person, *scopes: str) -> tuple[str, str]:
    """Id and text of a new API key."""
    made = await person.ok("POST", "/v1/api-keys", json={"name": "k", "scopes": list(scopes)})
    return made["id"], made["key"]


def with_key(person: Person, key: str) -> Person:
    """The person as their machine signs in."""
    return Person(person.url, person.tokens | {"access_token": key}, person.email)


async def test_a_suspended_person_is_out_within_seconds(eve: Person) -> None:
    member = await eve.invite("member")
    _, key = await made_key(member, "events:write", "read")
    machine = with_key(member, key)
    await machine.send([event(0, 60)])
    async with member.live() as live, machine.live() as other:
        await eve.ok("PATCH", f"/v1/users/{member.id}", json={"suspended": True})
        assert await parting(live) == {"type": "bye", "code": REVOKED, "reconnect": False}
        assert (await parting(other))["code"] == REVOKED

    async def refused() -> bool:
        replies = [await one.client.get("/v1/events") for one in (member, machine)]
        return [reply.status_code for reply in replies] == [401, 401]

    await eventually(refused, within=6)
    posted = {"device_id": "laptop", "source": "test", "events": [event(600, 60)]}
    assert_problem(await machine.client.post("/v1/events", json=posted), 401)
    account = {"email": member.email, "password": "correct horse"}
    assert (await eve.client.post("/v1/auth/login", json=account)).status_code in {401, 403}
    refresh = {"refresh_token": member.tokens["refresh_token"]}
    assert (await eve.client.post("/v1/auth/refresh", json=refresh)).status_code in {401, 403}

    await eve.ok("PATCH", f"/v1/users/{member.id}", json={"suspended": False})
    assert (await eve.client.post("/v1/auth/login", json=account)).status_code == 200
    await machine.close()
    await member.close()


async def test_a_revoked_key_is_out_and_its_owner_is_not(eve: Person) -> None:
    key_id, key = await made_key(eve, "events:write", "read")
    machine = with_key(eve, key)
    assert (await machine.client.get("/v1/events")).status_code == 200
    async with eve.live() as own, machine.live() as live:
        await eve.ok("DELETE", f"/v1/api-keys/{key_id}")
        assert (await parting(live))["code"] == REVOKED

        async def refused() -> bool:
            return (await machine.client.get("/v1/events")).status_code == 401

        await eventually(refused, within=6)
        await own.socket.send(frame("ping"))
        await own.until(lambda message: message["type"] == "pong")
    assert (await eve.client.get("/v1/events")).status_code == 200
    await machine.close()


async def test_signing_out_closes_what_that_sign_in_opened(eve: Person) -> None:
    account = {"email": eve.email, "password": "correct horse"}
    again = Person(eve.url, await eve.ok("POST", "/v1/auth/login", json=account), eve.email)
    async with eve.live() as kept, again.live() as live:
        await again.ok("POST", "/v1/auth/logout")
        assert (await parting(live))["code"] == REVOKED
        await kept.socket.send(frame("ping"))
        await kept.until(lambda message: message["type"] == "pong")
    assert_problem(await again.client.get("/v1/me"), 401)
    await again.close()


async def test_who_is_no_manager_any_more_hears_no_more_of_others(eve: Person) -> None:
    manager = await eve.invite("manager")
    async with manager.live("org") as live:
        await eve.ok("PATCH", f"/v1/users/{manager.id}", json={"role": "member"})
        told = await live.until(lambda message: message["type"] == "error", seconds=10)
        assert (told["code"], told["channel"]) == ("forbidden", "org")
        await live.socket.send(frame("subscribe", channel="org"))
        again = await live.until(lambda message: message["type"] != "message")
        assert (again["type"], again["code"]) == ("error", "forbidden")
    await manager.close()


POSTED: Final = {"device_id": "laptop", "source": "test", "events": [event(3600, 60)]}
SCOPES: Final[tuple[tuple[str, str, str, dict[str, Any], int], ...]] = (
    ("read", "GET", "/v1/events", {}, 200),
    ("read", "POST", "/v1/events", {"json": POSTED}, 403),
    ("read", "DELETE", f"/v1/events/{uuid4()}", {}, 403),
    ("read", "POST", "/v1/schedules/sessions.verify/trigger", {}, 403),
    ("read", "POST", "/v1/ops/dead-letters/discard", {"json": {"ids": [str(uuid4())]}}, 403),
    (
        "read",
        "POST",
        "/api/0/buckets/b",
        {"json": {"type": "t", "client": "c", "hostname": ""}},
        403,
    ),
    ("events:write", "POST", "/v1/events", {"json": POSTED}, 200),
    ("events:write", "GET", "/v1/events", {}, 403),
    ("events:write", "GET", "/v1/sessions?date=today", {}, 403),
    ("events:write", "GET", "/v1/days/today", {}, 403),
    ("events:write", "GET", "/v1/me", {}, 403),
    ("events:write", "GET", "/v1/presence", {}, 403),
    ("events:write", "GET", "/v1/live/sse", {}, 403),
    ("events:write", "POST", "/v1/live/tickets", {}, 403),
    ("events:write", "GET", "/v1/runs", {}, 403),
    ("events:write", "GET", "/api/0/buckets", {}, 403),
    ("jobs:write", "POST", "/v1/events", {"json": POSTED}, 403),
    ("jobs:write", "GET", "/v1/schedules", {}, 403),
    # No key makes keys, invites, promotes or erases: a machine is not a person.
    ("all", "POST", "/v1/api-keys", {"json": {"name": "k", "scopes": ["read"]}}, 403),
    ("all", "POST", "/v1/invitations", {"json": {"email": "a@b.org", "role": "owner"}}, 403),
    ("all", "PATCH", f"/v1/users/{uuid4()}", {"json": {"role": "owner"}}, 403),
    ("all", "PATCH", "/v1/me", {"json": {"name": "machine"}}, 403),
    ("all", "DELETE", "/v1/me", {"json": {"password": "correct horse"}}, 403),
    ("all", "GET", "/v1/audit", {}, 403),
    ("all", "GET", "/v1/me/export", {}, 403),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(eve: Person) -> dict[str, str]:
    scopes = ("read", "events:write", "jobs:write")
    made = {scope: (await made_key(eve, scope))[1] for scope in scopes}
    return made | {"all": (await made_key(eve, *scopes))[1]}


@pytest.mark.parametrize("case", SCOPES, ids=lambda case: f"{case[0]}: {case[1]} {case[2][:40]}")
async def test_a_key_does_what_its_scopes_say(
    suite: Suite, keys: dict[str, str], case: tuple[str, str, str, dict[str, Any], int]
) -> None:
    scope, method, path, arguments, status = case
    async with httpx.AsyncClient(base_url=suite.url, timeout=30) as client:
        headers = {"Authorization": f"Bearer {keys[scope]}"}
        reply = await client.request(method, path, headers=headers, **arguments)
    assert reply.status_code == status, reply.text
    if status == 403 and not path.startswith("/api/0"):
        assert_problem(reply, 403)


async def test_a_key_without_the_scope_gets_no_socket(suite: Suite, keys: dict[str, str]) -> None:
    bearer = {"Authorization": f"Bearer {keys['events:write']}"}
    assert await handshake_refused(suite, bearer) == 403
