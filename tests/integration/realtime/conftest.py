"""Replicas of realtime without their network, on the real NATS and Valkey."""

import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr

from chassis import bus, valkey
from chassis.bus import Bus
from chassis.clock import SystemClock
from chassis.subscription import Delivery
from deploy.embedded import wheels
from protos.realtime.v1.realtime_pb2 import LiveMessage
from services.realtime.consumers import Fanout
from services.realtime.domain.presence import Lease
from services.realtime.history import LiveHistory
from services.realtime.presence import PresenceKeeper
from services.realtime.publishers import LivePublisher, PresencePublisher, Streams
from services.realtime.settings import Settings
from services.realtime.store import ANNOUNCE_MS, PresenceStore
from tests.support.eventually import wait_until
from tests.support.servers import Stores

ACME, RIVAL = UUID(int=0xACE), UUID(int=0xBAD)
ANA, BEN = UUID(int=0xA), UUID(int=0xB)
# Leases and pauses of tests: long enough for a slow machine, short enough to wait for.
LEASE_SECONDS = 0.6
LEAVE_SECONDS = 0.3
REAP_SECONDS = 0.05


@dataclass
class Replica:
    """The parts of one process."""

    settings: Settings
    bus: Bus
    streams: Streams
    live: LivePublisher
    fanout: Fanout
    history: LiveHistory
    store: PresenceStore
    keeper: PresenceKeeper


@pytest.fixture
def settings(servers: Stores, nats_url: str, valkey_url: str) -> Settings:
    """As `make up` would set them, but impatient."""
    return Settings(
        nats_url=nats_url,
        nats_user="realtime",
        nats_password=SecretStr(servers.nats("realtime")["password"]),
        valkey_url=SecretStr(valkey_url),
        lease_seconds=LEASE_SECONDS,
        leave_seconds=LEAVE_SECONDS,
        reap_seconds=REAP_SECONDS,
    )


MakeReplica = Callable[..., Awaitable[Replica]]


@pytest.fixture
async def make_replica(settings: Settings) -> AsyncIterator[MakeReplica]:
    """``await make_replica(lease_seconds=60.0)``: connected, its streams declared."""
    async with AsyncExitStack() as stack:

        async def make(*, announce_ms: int = ANNOUNCE_MS, **changes: Any) -> Replica:
            own = settings.model_copy(update=changes)
            clock = SystemClock()
            client = await stack.enter_async_context(
                valkey.connect(own.valkey_url.get_secret_value())
            )
            connected = await stack.enter_async_context(bus.connect(own, service="realtime"))
            streams = Streams(bus=connected, clock=clock, replicas=1)
            await streams.declare()
            live = LivePublisher(bus=connected, streams=streams, clock=clock)
            store = PresenceStore(client, own, announce_ms=announce_ms)
            keeper = PresenceKeeper(
                store=store,
                publisher=PresencePublisher(bus=connected, clock=clock),
                live=live,
                clock=clock,
                reap_seconds=own.reap_seconds,
            )
            history = LiveHistory(connected)
            return Replica(own, connected, streams, live, Fanout(live), history, store, keeper)

        yield make


@pytest.fixture
async def replica(make_replica: MakeReplica) -> Replica:
    return await make_replica()


@pytest.fixture
async def admin(servers: Stores, nats_url: str) -> AsyncIterator[Client]:
    """NATS without limits."""
    client = await nats.connect(**servers.nats())
    yield client
    await client.close()


class Hub:
    """What a gateway hears: core NATS as the user `gateway`."""

    def __init__(self) -> None:
        self.heard: list[Msg] = []

    async def listen(self, message: Msg) -> None:
        self.heard.append(message)

    def on(self, channel: str, org: object = ACME) -> list[tuple[str, Any]]:
        """(event, data) of everything heard on a channel, in order."""
        return [
            (message.event, msgspec.json.decode(message.data_json))
            for message in map(LiveMessage.FromString, self.payloads(channel, org))
        ]

    def payloads(self, channel: str, org: object = ACME) -> list[bytes]:
        subject = f"rt.v1.{org}.{channel}"
        return [message.data for message in self.heard if message.subject == subject]

    def headers(self, channel: str, org: object = ACME) -> list[dict[str, str]]:
        subject = f"rt.v1.{org}.{channel}"
        return [message.headers or {} for message in self.heard if message.subject == subject]


@pytest.fixture
async def hub(servers: Stores, nats_url: str) -> AsyncIterator[Hub]:
    """Listens to every organization from now on."""
    client = await nats.connect(**servers.nats("gateway"))
    hub = Hub()
    await client.subscribe("rt.v1.>", cb=hub.listen)
    await client.flush()
    yield hub
    await client.close()


def delivery(
    message_id: str, payload: bytes, *, attempt: int = 1, traceparent: str = ""
) -> Delivery:
    return Delivery(
        message_id=message_id,
        subject="test",
        data=payload,
        type="",
        traceparent=traceparent,
        attempt=attempt,
        stream_seq=1,
        reply="",
        headers={},
    )


def leases(
    *states: str, user: UUID = ANA, org: UUID = ACME, gateway: str = "g1"
) -> Sequence[Lease]:
    """One connection per state."""
    return [Lease(org, user, f"{gateway}:{at}", state) for at, state in enumerate(states)]


class ValkeyProcess:
    """A Valkey of one test's own, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = SecretStr(f"redis://127.0.0.1:{self.port}/0")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start empty and wait until it listens."""
        self._process = subprocess.Popen(
            [
                wheels.valkey_server(),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                *("--dir", str(self._folder), "--logfile", str(self._folder / "valkey.log")),
            ]
        )
        wait_until(lambda: is_listening(self.port))

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class NatsProcess:
    """A NATS of one test's own, without users, to be restarted on the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start on what the folder holds and wait until it listens."""
        self._process = subprocess.Popen(
            [
                wheels.nats_server(),
                *("-js", "-sd", str(self._folder), "-a", "127.0.0.1", "-p", str(self.port)),
                *("-l", str(self._folder / "nats.log")),
            ]
        )
        wait_until(lambda: is_listening(self.port))

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def valkey_process(tmp_path: Path) -> Iterator[ValkeyProcess]:
    process = ValkeyProcess(tmp_path)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def nats_process(tmp_path: Path) -> Iterator[NatsProcess]:
    process = NatsProcess(tmp_path)
    process.start()
    yield process
    process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
