"""The whole service, asked over gRPC as the gateway asks it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import UUID

import grpc.aio
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client
from nats.js.api import StreamConfig
from pydantic import SecretStr

from chassis import rpc
from chassis.clock import SystemClock
from chassis.errors import Forbidden, Invalid, Unavailable
from chassis.identity import SERVICE_ROLE, InternalSigner, Principal
from chassis.lifecycle import Lifecycle
from protos.realtime.v1 import realtime_pb2 as pb
from protos.realtime.v1 import realtime_pb2_grpc as pb_grpc
from protos.sessions.v1.announcements_pb2 import TimeChanged
from protos.sessions.v1.sessions_pb2 import Day, Session
from services.realtime.app import build
from services.realtime.settings import Settings
from tests.integration.realtime.conftest import (
    ACME,
    ANA,
    BEN,
    RIVAL,
    Hub,
    ValkeyProcess,
    free_port,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

NOBODY = UUID(int=0)


class Gateway:
    """Calls realtime with tokens of anyone."""

    def __init__(
        self, lifecycle: Lifecycle, signer: InternalSigner, channel: grpc.aio.Channel
    ) -> None:
        self.lifecycle = lifecycle
        self._signer = signer
        self._presence = pb_grpc.PresenceServiceStub(channel)
        self._live = pb_grpc.LiveServiceStub(channel)
        self._clock = SystemClock()

    def token(self, role: str, user: UUID = ANA, org: UUID = ACME) -> str:
        return self._signer.token_for(Principal(org_id=org, user_id=user, role=role))

    async def refresh(
        self, token: str, *alive: pb.Lease, closed: tuple[pb.Lease, ...] = ()
    ) -> float:
        request = pb.RefreshLeasesRequest(leases=alive, closed=closed)
        answer: pb.RefreshLeasesResponse = await rpc.call(
            self._presence.RefreshLeases, request, token=token, clock=self._clock
        )
        return answer.lease_seconds

    async def presence(self, token: str, user: str = "") -> pb.ListPresenceResponse:
        request = pb.ListPresenceRequest(user_id=user)
        return await rpc.call(self._presence.ListPresence, request, token=token, clock=self._clock)

    async def history(
        self, token: str, channel: str, *, since_epoch: str = "", since_offset: int = 0
    ) -> pb.GetHistoryResponse:
        request = pb.GetHistoryRequest(
            channel=channel, since_epoch=since_epoch, since_offset=since_offset
        )
        return await rpc.call(self._live.GetHistory, request, token=token, clock=self._clock)


StartService = Callable[[Settings], Awaitable[Gateway]]


@pytest.fixture
async def start_service(tmp_path: Path) -> AsyncIterator[StartService]:
    key = Ed25519PrivateKey.generate()
    public = tmp_path / "token.pub.pem"
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    async with AsyncExitStack() as stack:

        async def start(settings: Settings) -> Gateway:
            own = settings.model_copy(
                update={
                    "token_public_key_file": public,
                    "grpc_listen": f"127.0.0.1:{free_port()}",
                    "drain_seconds": 4.0,
                }
            )
            lifecycle = await stack.enter_async_context(running(own))
            channel = await stack.enter_async_context(rpc.channel(own.grpc_listen, own))
            return Gateway(lifecycle, InternalSigner(key, SystemClock()), channel)

        yield start


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Lifecycle]:
    """One process of the service, without its signals and its HTTP."""
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        lifecycle = Lifecycle(stack)
        await build(lifecycle, settings)
        body = asyncio.create_task(lifecycle.run(stopping, settings.drain_seconds))
        try:
            await eventually(lambda: lifecycle.probe.is_started or body.done())
            yield lifecycle
        finally:
            stopping.set()
            await body


@pytest.fixture
async def gateway(start_service: StartService, settings: Settings) -> Gateway:
    return await start_service(settings.model_copy(update={"lease_seconds": 60.0}))


def lease(user: UUID = ANA, org: UUID = ACME, state: str = "online") -> pb.Lease:
    return pb.Lease(org_id=str(org), user_id=str(user), connection_id=f"g:{user}", state=state)


async def test_one_change_goes_from_the_bus_to_the_channel_and_its_history(
    gateway: Gateway, admin: Client, hub: Hub
) -> None:
    mine = f"user.{ANA}"
    token = gateway.token("member")
    start = await gateway.history(token, mine)
    assert start.is_recovered
    jetstream = admin.jetstream()
    await jetstream.add_stream(StreamConfig(name="SESSIONS", subjects=["sessions.v1.>"]))
    fact = TimeChanged(
        org_id=str(ACME),
        user_id=str(ANA),
        version=1,
        updated=[Session(id="s1", user_id=str(ANA), kind="active", end_us=1)],
        days=[Day(date="2026-01-19", active_us=1_000_000, version=1)],
    )
    await jetstream.publish(f"sessions.v1.1.{ACME}", fact.SerializeToString())
    await eventually(lambda: len(hub.on(mine)) == 2, within=10)
    missed = await gateway.history(token, mine, since_epoch=start.epoch, since_offset=start.offset)
    assert missed.is_recovered
    assert [message.event for message in missed.messages] == ["session.updated", "day.updated"]
    assert [message.data_json for message in missed.messages] == [
        msgspec.json.encode(data) for _, data in hub.on(mine)
    ]
    offsets = [int(header["Nats-Sequence"]) for header in hub.headers(mine)]
    assert [message.offset for message in missed.messages] == offsets
    assert missed.offset >= offsets[-1]


async def test_presence_goes_from_a_lease_to_the_channel(gateway: Gateway, hub: Hub) -> None:
    assert await gateway.refresh(gateway.token(SERVICE_ROLE, NOBODY), lease()) == 60.0
    await eventually(lambda: len(hub.on(f"user.{ANA}")) == 1, within=10)
    (_, data) = hub.on(f"user.{ANA}")[0]
    assert (data["user_id"], data["state"], data["connections"]) == (str(ANA), "online", 1)


async def test_members_see_their_own_presence_and_managers_everyones(gateway: Gateway) -> None:
    await gateway.refresh(gateway.token(SERVICE_ROLE, NOBODY), lease(ANA), lease(BEN, state="idle"))

    async def seen(role: str, user: str = "") -> set[str]:
        answer = await gateway.presence(gateway.token(role), user)
        assert not answer.is_stale
        return {one.user_id for one in answer.presence}

    for role in ("guest", "member"):
        assert await seen(role) == {str(ANA)}
        assert await seen(role, str(ANA)) == {str(ANA)}
        with pytest.raises(Forbidden):
            await seen(role, str(BEN))
    for role in ("manager", "admin", "owner"):
        assert await seen(role) == {str(ANA), str(BEN)}
        assert await seen(role, str(BEN)) == {str(BEN)}
    with pytest.raises(Invalid):
        await seen("owner", "*")
    theirs = await gateway.presence(gateway.token("owner", org=RIVAL))
    assert list(theirs.presence) == []


async def test_nobody_but_a_service_holds_leases(gateway: Gateway) -> None:
    for role in ("owner", "member", ""):
        with pytest.raises(Forbidden):
            await gateway.refresh(gateway.token(role), lease())
    assert list((await gateway.presence(gateway.token("owner"))).presence) == []


async def test_a_bad_lease_is_refused_with_its_field_and_nothing_is_taken_in(
    gateway: Gateway,
) -> None:
    service = gateway.token(SERVICE_ROLE, NOBODY)
    bad = pb.Lease(org_id="acme.>", user_id=str(ANA), connection_id="c", state="online")
    with pytest.raises(Invalid) as refused:
        await gateway.refresh(service, lease(), bad)
    assert [violation.field for violation in refused.value.violations] == ["leases[1].org_id"]
    with pytest.raises(Invalid):
        await gateway.refresh(service, *[lease()] * 5001)
    assert list((await gateway.presence(service)).presence) == []


@pytest.mark.parametrize("channel", ["org", "jobs", f"user.{BEN}", "ctl"])
async def test_history_is_only_for_those_who_may_watch(gateway: Gateway, channel: str) -> None:
    with pytest.raises(Forbidden):
        await gateway.history(gateway.token("member"), channel)


@pytest.mark.parametrize("channel", ["", "user.*", f"{RIVAL}.org", "org.>", "space.1"])
async def test_a_channel_that_is_none_is_refused(gateway: Gateway, channel: str) -> None:
    with pytest.raises(Invalid):
        await gateway.history(gateway.token("owner"), channel)


async def test_managers_read_the_organization_and_gateways_their_orders(gateway: Gateway) -> None:
    for channel in ("org", "jobs"):
        assert (await gateway.history(gateway.token("manager"), channel)).is_recovered
    service = gateway.token(SERVICE_ROLE, NOBODY)
    for channel in ("ctl", "org", f"user.{BEN}"):
        assert (await gateway.history(service, channel)).epoch


async def test_when_the_store_of_leases_dies_the_rest_lives_on(
    start_service: StartService,
    settings: Settings,
    valkey_process: ValkeyProcess,
    admin: Client,
    hub: Hub,
) -> None:
    gateway = await start_service(
        settings.model_copy(update={"valkey_url": valkey_process.url, "lease_seconds": 60.0})
    )
    service = gateway.token(SERVICE_ROLE, NOBODY)
    await gateway.refresh(service, lease())
    assert await gateway.lifecycle.probe.examine() == {
        "process": "ok",
        "nats": "ok",
        "valkey": "ok",
    }
    valkey_process.kill()
    with pytest.raises(Unavailable):
        await gateway.refresh(service, lease())
    state = await gateway.lifecycle.probe.examine()
    assert state["nats"] == "ok"
    assert state["valkey"] != "ok"
    answer = await gateway.presence(gateway.token("owner"))
    assert answer.is_stale
    assert [one.user_id for one in answer.presence] == [str(ANA)]

    jetstream = admin.jetstream()
    await jetstream.add_stream(StreamConfig(name="SESSIONS", subjects=["sessions.v1.>"]))
    fact = TimeChanged(org_id=str(ACME), user_id=str(ANA), version=1, removed=["s1"])
    await jetstream.publish(f"sessions.v1.1.{ACME}", fact.SerializeToString())
    await eventually(
        lambda: "session.removed" in [event for event, _ in hub.on(f"user.{ANA}")], within=10
    )
    valkey_process.start()
    await gateway.refresh(service, lease())
    assert not (await gateway.presence(gateway.token("owner"))).is_stale
    assert (await gateway.lifecycle.probe.examine())["valkey"] == "ok"


async def test_the_password_of_the_store_never_shows(settings: Settings) -> None:
    assert isinstance(settings.valkey_url, SecretStr)
    assert settings.valkey_url.get_secret_value() not in repr(settings)
