"""The WebSocket application, spoken to as an ASGI server would."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from chassis.clock import MICROSECONDS, ManualClock
from chassis.errors import Unavailable
from chassis.identity import Principal
from protos.realtime.v1.realtime_pb2 import RefreshLeasesRequest, RefreshLeasesResponse
from services.gateway.auth import Authenticator, Caller, credential_in
from services.gateway.clients import PresenceClient
from services.gateway.connection import MAX_STRIKES
from services.gateway.hub import MAX_CONNECTIONS_PER_USER, WRITE_SECONDS, Hub
from services.gateway.leases import Leases
from services.gateway.payloads.live import REVOKED
from services.gateway.rate_limit import RateLimits
from services.gateway.seat import Seat
from services.gateway.settings import Settings
from services.gateway.tickets import Tickets
from services.gateway.tokens import BadCredential
from services.gateway.websocket import LiveSocket
from tests.support.eventually import eventually
from tests.unit.gateway.live_world import ADA, BEN, KEY, ORG, LiveWorld, settled

ME = f"user.{ADA}"


def caller_of(user_id: UUID = ADA, *, expires_at_us: int = 0, scopes: str = "read") -> Caller:
    principal = Principal(
        org_id=ORG,
        user_id=user_id,
        role="owner",
        scopes=frozenset(scopes.split()),
        credential_id=str(KEY),
    )
    return Caller(principal=principal, is_person=True, expires_at_us=expires_at_us)


class Doors:
    """Credentials and tickets: the callers of both, by text."""

    def __init__(self) -> None:
        self.callers: dict[str, Caller] = {"ada": caller_of(), "ben": caller_of(BEN)}
        self.tickets: dict[str, Caller] = {}
        self.is_away = False

    async def of(self, headers: Mapping[str, str]) -> Caller:
        return await self.authenticate(credential_in(headers))

    async def authenticate(self, credential: str) -> Caller:
        if self.is_away:
            raise Unavailable
        if credential not in self.callers:
            raise BadCredential
        return self.callers[credential]

    async def redeem(self, text: str) -> Caller:
        if text not in self.tickets:
            raise BadCredential
        return self.tickets.pop(text)


class Presences:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[RefreshLeasesRequest] = []

    async def refresh_leases(
        self, _by: Principal, request: RefreshLeasesRequest
    ) -> RefreshLeasesResponse:
        self.told.append(request)
        return RefreshLeasesResponse(lease_seconds=75)


class Wire:
    """One client at the other end of an ASGI server; `is_open` False stops taking anything."""

    def __init__(self, app: LiveSocket, path: str = "", headers: Mapping[str, str] | None = None):
        self._app = app
        self._inbound: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbound.put_nowait({"type": "websocket.connect"})
        self.open = asyncio.Event()
        self.open.set()
        self.sent: list[dict[str, Any]] = []
        self.scope = {
            "type": "websocket",
            "query_string": path.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        }
        self.running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        await self._app(self.scope, self._inbound.get, self._take)

    async def _take(self, message: dict[str, Any]) -> None:
        await self.open.wait()
        self.sent.append(message)
        if message["type"] == "websocket.http.response.body":
            self._inbound.put_nowait({"type": "websocket.disconnect", "code": 1006})
            self._inbound.put_nowait({"type": "websocket.disconnect", "code": 1005})
        if message["type"] == "websocket.close":
            self._inbound.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    def say(self, **message: Any) -> None:
        self.say_raw(msgspec.json.encode(message).decode())

    def say_raw(self, text: str) -> None:
        self._inbound.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        self._inbound.put_nowait({"type": "websocket.disconnect", "code": 1005})

    @property
    def frames(self) -> list[dict[str, Any]]:
        texts = [m["text"] for m in self.sent if m["type"] == "websocket.send"]
        return [msgspec.json.decode(text) for text in texts]

    @property
    def close_code(self) -> int | None:
        codes = [m["code"] for m in self.sent if m["type"] == "websocket.close"]
        return codes[0] if codes else None


class Stage:
    """The application with everything around it."""

    def __init__(self, hub: Hub, clock: ManualClock) -> None:
        self.doors = Doors()
        self.presences = Presences()
        self.leases = Leases(
            presence=cast("PresenceClient", self.presences), seats=lambda: hub.seats, clock=clock
        )
        self.app = LiveSocket(
            hub=hub,
            authenticator=cast("Authenticator", self.doors),
            tickets=cast("Tickets", self.doors),
            leases=self.leases,
            limits=RateLimits(Settings(bad_credentials_per_minute=5), clock),
            clock=clock,
            part_seconds=0.05,
        )
        self.group = asyncio.TaskGroup()

    async def connect(self, credential: str = "ada", query: str = "") -> Wire:
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        wire = Wire(self.app, query, headers)
        wire.running = self.group.create_task(wire.run())
        await settled(most=20)
        return wire


@asynccontextmanager
async def staged(hub: Hub, clock: ManualClock) -> AsyncIterator[Stage]:
    stage = Stage(hub, clock)
    async with stage.group:
        yield stage
        for task in list(stage.group._tasks):
            task.cancel()


@pytest.fixture
async def stage(hub: Hub, clock: ManualClock) -> AsyncIterator[Stage]:
    async with staged(hub, clock) as one:
        yield one


async def test_a_client_subscribes_and_hears(stage: Stage, world: LiveWorld) -> None:
    wire = await stage.connect()
    wire.say(type="subscribe", channel="me")
    await settled(most=20)
    await world.publish(ME, {"id": 1})
    await settled(most=20)
    assert wire.sent[0] == {"type": "websocket.accept"}
    assert [frame["type"] for frame in wire.frames] == ["subscribed", "message"]
    assert wire.frames[1]["data"] == {"id": 1}


async def test_it_resumes_from_since(stage: Stage, world: LiveWorld) -> None:
    await world.publish(ME, 1)
    await world.publish(ME, 2)
    wire = await stage.connect()
    wire.say(type="subscribe", channel="me", since="e1:1")
    await settled()
    assert [frame.get("data") for frame in wire.frames] == [None, 2]
    assert wire.frames[0]["recovered"] is True


async def test_without_a_good_credential_the_handshake_is_a_problem_with_status_401(
    stage: Stage,
) -> None:
    for credential in ("", "stranger"):
        wire = await stage.connect(credential)
        start, body = wire.sent
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
        assert (b"content-type", b"application/problem+json") in start["headers"]
        problem = msgspec.json.decode(body["body"])
        assert problem["type"] == "urn:timeloom:problem:unauthenticated"


async def test_who_guesses_is_slowed_down(stage: Stage) -> None:
    statuses = [(await stage.connect("guess")).sent[0]["status"] for _ in range(7)]
    assert statuses == [401] * 5 + [429] * 2


async def test_what_is_wrong_before_the_handshake_has_its_status(stage: Stage) -> None:
    stage.doors.callers["writer"] = caller_of(scopes="events:write")
    assert (await stage.connect("writer")).sent[0]["status"] == 403
    stage.doors.is_away = True
    assert (await stage.connect()).sent[0]["status"] == 503


async def test_a_ticket_opens_one_connection(stage: Stage) -> None:
    stage.doors.tickets["t1"] = caller_of()
    first = await stage.connect("", "ticket=t1")
    second = await stage.connect("", "ticket=t1")
    assert first.close_code is None
    assert second.sent[0]["type"] == "websocket.accept", "or a script learns nothing"
    assert second.frames == [{"type": "bye", "code": 4401, "reconnect": False}]
    assert second.close_code == 4401


async def test_the_twenty_first_connection_is_refused(stage: Stage) -> None:
    for _ in range(MAX_CONNECTIONS_PER_USER):
        await stage.connect()
    assert (await stage.connect()).sent[0]["status"] == 429
    stage.doors.tickets["t"] = caller_of()
    assert (await stage.connect("", "ticket=t")).close_code == 3504
    assert (await stage.connect("ben")).sent[0]["type"] == "websocket.accept"


@pytest.mark.parametrize(
    ("text", "code", "channel"),
    [
        ("{", "malformed", None),
        ('"subscribe"', "malformed", None),
        ('{"type": "shout"}', "malformed", None),
        ('{"type": "subscribe"}', "malformed", None),
        ('{"type": "subscribe", "channel": "me", "extra": 1}', "malformed", None),
        ('{"type": "subscribe", "channel": "me", "since": "x"}', "malformed", "me"),
        ('{"type": "subscribe", "channel": "user.x.>"}', "unknown_channel", "user.x.>"),
        ('{"type": "subscribe", "channel": "space:*"}', "unknown_channel", "space:*"),
        ('{"type": "subscribe", "channel": "space:' + str(BEN) + '"}', "forbidden", None),
        ('{"type": "refresh", "token": "stranger"}', "bad_token", None),
        ('{"type": "refresh", "token": "ben"}', "bad_token", None),
        ('{"type": "ping", "pad": "' + "x" * 70_000 + '"}', "malformed", None),
        ("[" * 5000, "malformed", None),
    ],
)
async def test_what_is_wrong_is_answered_and_the_connection_stays(
    stage: Stage, text: str, code: str, channel: str | None
) -> None:
    wire = await stage.connect()
    wire.say_raw(text)
    wire.say(type="ping")
    await settled(most=40)
    error, pong = wire.frames
    assert (error["type"], error["code"]) == ("error", code)
    assert channel is None or error["channel"] == channel
    assert pong == {"type": "pong"}


async def test_who_keeps_on_being_wrong_is_sent_away_for_good(stage: Stage) -> None:
    wire = await stage.connect()
    for _ in range(MAX_STRIKES):
        wire.say_raw("nonsense")
    await settled()
    assert wire.frames[-1] == {"type": "bye", "code": 3509, "reconnect": False}
    assert wire.close_code == 3509
    assert wire.running is not None
    await eventually(wire.running.done)


async def test_more_than_thirty_messages_a_second_are_too_many(
    stage: Stage, clock: ManualClock
) -> None:
    wire = await stage.connect()
    for _ in range(31):
        wire.say(type="ping")
    await settled()
    assert [frame["type"] for frame in wire.frames].count("pong") == 30
    assert wire.frames[-1]["code"] == "too_many_messages"
    clock.advance(1)
    wire.say(type="ping")
    await settled()
    assert wire.frames[-1] == {"type": "pong"}


async def test_a_refresh_keeps_the_connection_past_the_first_credential(
    stage: Stage, hub: Hub, clock: ManualClock
) -> None:
    now = clock.now_us()
    stage.doors.callers["old"] = caller_of(expires_at_us=now + 60 * MICROSECONDS)
    stage.doors.callers["new"] = caller_of(expires_at_us=now + 900 * MICROSECONDS)
    kept, let_go = await stage.connect("old"), await stage.connect("old")
    clock.advance(40)
    hub.look_after()
    kept.say(type="refresh", token="new")
    await settled()
    clock.advance(60)
    hub.look_after()
    await settled()
    assert [frame["type"] for frame in kept.frames] == ["error", "refreshed"]
    assert kept.frames[0]["code"] == "token_expiring"
    assert kept.close_code is None
    assert let_go.frames[-1] == {"type": "bye", "code": 3005, "reconnect": True}
    assert let_go.close_code == 3005


async def test_a_client_that_takes_nothing_is_cut_off(
    stage: Stage, hub: Hub, world: LiveWorld
) -> None:
    wire = await stage.connect()
    wire.say(type="subscribe", channel="me")
    await settled()
    wire.open.clear()
    for n in range(300):
        await world.publish(ME, n)
    await settled(most=20)
    assert wire.running is not None
    assert not wire.running.done()
    await eventually(wire.running.done, within=6)
    assert hub.seats == []


async def test_a_frame_that_is_not_taken_for_half_a_minute_ends_the_connection(
    stage: Stage, hub: Hub, world: LiveWorld, clock: ManualClock
) -> None:
    wire = await stage.connect()
    wire.say(type="subscribe", channel="me")
    await settled(most=20)
    wire.open.clear()
    await world.publish(ME, 1)
    await settled(most=20)
    clock.advance(WRITE_SECONDS)
    hub.look_after()
    assert len(hub.seats) == 1
    clock.advance(0.1)
    hub.look_after()
    await eventually(lambda: hub.seats == [])


async def test_presence_follows_the_connection(stage: Stage) -> None:
    wire = await stage.connect()
    await stage.leases.refresh(is_whole=False)
    wire.say(type="presence", state="away")
    await settled(most=20)
    await stage.leases.refresh(is_whole=False)
    wire.leave()
    await settled(most=20)
    await stage.leases.refresh(is_whole=False)
    first, second, third = stage.presences.told
    assert [lease.state for lease in (*first.leases, *second.leases)] == ["online", "away"]
    assert list(third.leases) == []
    assert third.closed[0].connection_id == first.leases[0].connection_id
    assert third.closed[0].user_id == str(ADA)


async def test_who_leaves_is_forgotten(stage: Stage, hub: Hub, world: LiveWorld) -> None:
    wire = await stage.connect()
    wire.say(type="subscribe", channel="me")
    wire.say(type="subscribe", channel="org")
    await settled()
    assert len(hub.seats) == 1
    wire.leave()
    await settled()
    assert hub.seats == []
    await world.publish(ME, 1)
    assert wire.close_code is None
    assert wire.scope["headers"] == [], "a credential is not kept for the life of a connection"


async def test_who_is_revoked_while_they_enter_is_told_after_the_handshake(
    stage: Stage, hub: Hub, world: LiveWorld
) -> None:
    enter = hub.enter

    async def entering(seat: Seat) -> None:
        await enter(seat)
        seat.mailbox.dismiss(REVOKED)

    hub.enter = entering  # type: ignore[method-assign]
    wire = await stage.connect()
    await settled()
    assert [m["type"] for m in wire.sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert wire.close_code == 3503
