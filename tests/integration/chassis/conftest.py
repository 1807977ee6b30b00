"""A database with the chassis's own tables, a connected bus, and a relay to run."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import asyncpg
import pytest
from pydantic import SecretStr

from chassis import bus as bus_module
from chassis import postgres
from chassis.bus import Bus
from chassis.clock import SystemClock
from chassis.outbox import Outbox
from chassis.postgres import Pool
from chassis.settings import PostgresSettings, ServiceSettings
from deploy.embedded import databases
from deploy.embedded.wheels import REPOSITORY
from tests.support.servers import Stores, postgres_dsn

CLOCK = SystemClock()
MIGRATIONS = REPOSITORY / "chassis" / "migrations"

ConnectBus = Callable[[], Awaitable[Bus]]
MakeOutbox = Callable[..., Outbox]
Running = Callable[[Outbox], AbstractAsyncContextManager[None]]


@pytest.fixture(scope="session")
def template(servers: Stores) -> str:
    """The name of a database that holds the migrated chassis tables and no rows."""
    name = "template_chassis"

    async def make() -> None:
        await servers.execute(f"CREATE DATABASE {name}")
        await databases.migrate("chassis", dsn_of(servers, name), (MIGRATIONS,))

    asyncio.run(make())
    return name


def dsn_of(servers: Stores, name: str) -> str:
    return postgres_dsn(servers.port("postgres"), servers.credentials, name, "postgres")


@pytest.fixture
async def dsn(servers: Stores, template: str) -> AsyncIterator[str]:
    name = f"test_chassis_{secrets.token_hex(4)}"
    await servers.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield dsn_of(servers, name)
    await servers.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    settings = PostgresSettings(postgres_dsn=SecretStr(dsn))
    async with postgres.pool(settings, application="test") as opened:
        yield opened


@pytest.fixture
async def conn(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the test's own, to look at what is stored."""
    connection = await asyncpg.connect(dsn, ssl=False)
    yield connection
    await connection.close()


@pytest.fixture
async def connect_bus(servers: Stores, nats_url: str) -> AsyncIterator[ConnectBus]:
    """``await connect_bus()``: one more connection, as the user admin."""
    settings = ServiceSettings(
        nats_url=nats_url,
        nats_user="admin",
        nats_password=SecretStr(servers.credentials.nats["admin"]),
    )
    async with AsyncExitStack() as stack:

        async def make() -> Bus:
            opened = bus_module.connect(settings, service="admin")
            return await stack.enter_async_context(opened)

        yield make


@pytest.fixture
async def bus(connect_bus: ConnectBus) -> Bus:
    return await connect_bus()


@pytest.fixture
def make_outbox(pool: Pool, bus: Bus) -> MakeOutbox:
    """``make_outbox("ALPHA", "BETA")``: the outbox of one replica."""

    def make(*streams: str) -> Outbox:
        return Outbox(pool=pool, bus=bus, service="sample", clock=CLOCK, streams=streams)

    return make


@pytest.fixture
def running() -> Running:
    """``async with running(outbox)``: its relay runs inside the block and drains at its end."""

    @asynccontextmanager
    async def run(outbox: Outbox) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(outbox.run(stopping))
            try:
                yield
            finally:
                stopping.set()

    return run
