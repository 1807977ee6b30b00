"""A scheduler in parts and as a whole, on the real PostgreSQL and NATS, and workers for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid5

import grpc.aio
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import Message
from pydantic import SecretStr

from chassis import bus as buses
from chassis import postgres, rpc
from chassis.bus import Bus
from chassis.clock import SystemClock
from chassis.deadletters import DeadLetters
from chassis.identity import InternalSigner, Principal
from chassis.jobs import Job, JobWorker
from chassis.lifecycle import Lifecycle
from chassis.outbox import Outbox
from chassis.postgres import Pool
from chassis.settings import PostgresSettings, ServiceSettings
from chassis.subscription import PullLoop, Subscription
from deploy.embedded import ports
from protos.scheduler.v1.scheduler_pb2_grpc import DeadLettersServiceStub, SchedulerServiceStub
from services.scheduler.app import build
from services.scheduler.dispatch import Settler
from services.scheduler.domain.plans import SUITE, Plan, Policy, Schedule, next_fire
from services.scheduler.due import Firing
from services.scheduler.leases import Leases
from services.scheduler.publishers import STREAMS, declare_streams
from services.scheduler.settings import Settings
from services.scheduler.store import replicas, schedules
from tests.support.servers import Stores

CLOCK = SystemClock()
SECOND = 1_000_000
ACME, RIVAL = UUID("00000000-0000-7000-8000-000000000ace"), UUID(int=0xBAD)
ANA = UUID(int=0xA)
Reply = TypeVar("Reply", bound=Message)


@dataclass
class Parts:
    """One replica's parts, whose loops the test turns by hand."""

    dsn: str
    pool: Pool
    bus: Bus
    outbox: Outbox
    firing: Firing
    leases: Leases

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """What a query finds."""
        async with postgres.connection(self.pool) as conn:
            return [dict(row.items()) for row in await conn.fetch(query, *arguments)]

    async def execute(self, statement: str, *arguments: object) -> None:
        async with postgres.connection(self.pool) as conn:
            await conn.execute(statement, *arguments)

    async def plan(
        self,
        name: str = "ingest.partitions",
        *,
        plan: Plan | None = None,
        org: UUID = SUITE,
        due_seconds_ago: float | None = 0,
        **policy: Any,
    ) -> Schedule:
        """Stores a schedule; it is due since so long, or planned from now on when None."""
        schedule = Schedule(
            org_id=org,
            id=uuid5(org, name),
            name=name,
            job="ingest.partitions",
            plan=plan or Plan("every", "3600"),
            policy=Policy(**policy),
        )
        async with postgres.transaction(self.pool) as conn:
            now = await replicas.now_us(conn)
            moment, fire_at = next_fire(schedule, now)
            if due_seconds_ago is not None:
                moment = fire_at = now - round(due_seconds_ago * SECOND)
            planned = msgspec.structs.replace(schedule, scheduled_for_us=moment, fire_at_us=fire_at)
            await schedules.declare(conn, planned, "")
        return planned


@pytest.fixture
def bus_settings(servers: Stores, nats_url: str) -> Callable[[str], ServiceSettings]:
    """How a service connects to NATS: as the user that nats.conf has for it."""

    def settings(service: str) -> ServiceSettings:
        return ServiceSettings(
            nats_url=nats_url,
            nats_user=service,
            nats_password=SecretStr(servers.credentials.nats[service]),
        )

    return settings


@pytest.fixture
async def make_parts(
    database: Callable[[str], Awaitable[str]], bus_settings: Callable[[str], ServiceSettings]
) -> AsyncIterator[Callable[[], Awaitable[Parts]]]:
    """``await make_parts()``: another replica on the same database."""
    dsn = await database("scheduler")
    async with AsyncExitStack() as stack:

        async def make() -> Parts:
            opened = postgres.pool(
                PostgresSettings(postgres_dsn=SecretStr(dsn)), application="scheduler"
            )
            pool = await stack.enter_async_context(opened)
            bus = await stack.enter_async_context(
                buses.connect(bus_settings("scheduler"), service="scheduler")
            )
            outbox = Outbox(pool=pool, bus=bus, service="scheduler", clock=CLOCK, streams=STREAMS)
            firing = await stack.enter_async_context(Firing(pool=pool, outbox=outbox, clock=CLOCK))
            leases = Leases(pool=pool, outbox=outbox, settler=Settler(lambda: 0.0))
            return Parts(dsn, pool, bus, outbox, firing, leases)

        yield make


@pytest.fixture
async def parts(make_parts: Callable[[], Awaitable[Parts]]) -> Parts:
    """One replica's parts, its streams declared; rows go to the default partitions."""
    made = await make_parts()
    await declare_streams(made.bus)
    return made


@asynccontextmanager
async def looping(*loops: Callable[[asyncio.Event], Any]) -> AsyncIterator[None]:
    """The loops run inside the block, and end with it."""
    stopping = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(loop(stopping))
        try:
            yield
        finally:
            stopping.set()


@dataclass
class Scheduler:
    """A whole scheduler in this process, called as the gateway calls it."""

    settings: Settings
    channel: grpc.aio.Channel
    signer: InternalSigner

    @property
    def schedules(self) -> Any:
        return SchedulerServiceStub(self.channel)

    @property
    def letters(self) -> Any:
        return DeadLettersServiceStub(self.channel)

    async def call(
        self,
        method: Callable[..., Awaitable[Reply]],
        request: Message,
        *,
        role: str = "owner",
        org: UUID = ACME,
    ) -> Reply:
        """One call; raises what the service raised."""
        token = self.signer.token_for(Principal(org_id=org, user_id=ANA, role=role))
        return await rpc.call(method, request, token=token, clock=CLOCK)


@dataclass
class Installation:
    """Where schedulers of a test run: a database, a key, and the servers."""

    dsn: str
    public_key: Path
    signer: InternalSigner
    bus_settings: Callable[[str], ServiceSettings]
    operator: UUID | None = ACME

    def settings(self) -> Settings:
        of_bus = self.bus_settings("scheduler")
        (port,) = ports.pick(1)
        return Settings(
            postgres_dsn=SecretStr(self.dsn),
            nats_url=of_bus.nats_url,
            nats_user=of_bus.nats_user,
            nats_password=of_bus.nats_password,
            grpc_listen=f"127.0.0.1:{port}",
            token_public_key_file=self.public_key,
            operator_org_id=self.operator,
        )

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Scheduler]:
        """A scheduler as `python -m services.scheduler` makes it, drained at the end."""
        settings = self.settings()
        stopping = asyncio.Event()
        async with AsyncExitStack() as stack:
            app = Lifecycle(stack)
            await build(app, settings)
            async with asyncio.timeout(90), asyncio.TaskGroup() as group:
                running = group.create_task(app.run(stopping, 5.0))
                async with rpc.channel(settings.grpc_listen, settings) as channel:
                    try:
                        yield Scheduler(settings, channel, self.signer)
                    finally:
                        # A test that fails must not leave half a server behind.
                        stopping.set()
                        await asyncio.wait([running])


@pytest.fixture
async def installation(
    database: Callable[[str], Awaitable[str]],
    bus_settings: Callable[[str], ServiceSettings],
    tmp_path: Path,
) -> Installation:
    key = Ed25519PrivateKey.generate()
    public_key = tmp_path / "token.pub.pem"
    public_key.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return Installation(
        await database("scheduler"), public_key, InternalSigner(key, CLOCK), bus_settings
    )


@dataclass
class Worker:
    """Another service of the suite: its own database, its own NATS user, and what it did."""

    service: str
    pool: Pool
    bus: Bus
    outbox: Outbox
    did: list[str] = field(default_factory=list)

    def work(self, jobs: Mapping[str, Job]) -> AbstractAsyncContextManager[None]:
        """The service's JobWorker and relay run inside the block."""
        worker = JobWorker(service=self.service, jobs=jobs, outbox=self.outbox, clock=CLOCK)
        return looping(self.outbox.run, *self.pulls([worker.subscription()]))

    def pulls(
        self, subscriptions: Sequence[Subscription]
    ) -> list[Callable[[asyncio.Event], Awaitable[None]]]:
        """The pull loops of these subscriptions."""
        letters = DeadLetters(bus=self.bus, service=self.service, clock=CLOCK)
        return [
            PullLoop(bus=self.bus, subscription=one, dead_letters=letters, clock=CLOCK).run
            for one in subscriptions
        ]


@pytest.fixture
async def make_worker(
    database: Callable[[str], Awaitable[str]], bus_settings: Callable[[str], ServiceSettings]
) -> AsyncIterator[Callable[..., Awaitable[Worker]]]:
    """``await make_worker("ingest")``; its scratch database has the chassis's tables."""
    async with AsyncExitStack() as stack:

        async def make(service: str, *streams: str) -> Worker:
            dsn = await database("scheduler")
            pool = await stack.enter_async_context(
                postgres.pool(PostgresSettings(postgres_dsn=SecretStr(dsn)), application=service)
            )
            bus = await stack.enter_async_context(
                buses.connect(bus_settings(service), service=service)
            )
            outbox = Outbox(
                pool=pool, bus=bus, service=service, clock=CLOCK, streams=["REPORTS", *streams]
            )
            return Worker(service, pool, bus, outbox)

        yield make
