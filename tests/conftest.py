"""Fixtures: the real stores, started once for a run and clean for each test that asks."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from redis.asyncio import Redis

from tests.support.servers import Database, Stores

MARKED_FOLDERS = ("integration", "e2e", "fault")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder decides the marker, so no test runs in the wrong stage of `make test`."""
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        if folder in MARKED_FOLDERS:
            item.add_marker(folder)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """PostgreSQL, NATS and Valkey; started when the first test asks for them."""
    with Stores(tmp_path_factory.mktemp("stores") / "data") as stores:
        yield stores


@pytest.fixture
async def database(servers: Stores) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """``await database("ingest")``: the DSN of a new, migrated database, dropped after the test."""
    made: list[Database] = []

    async def create(service: str) -> str:
        made.append(await servers.create_database(service))
        return made[-1].dsn

    yield create
    for one in made:
        await servers.drop_database(one)


@pytest.fixture
async def nats_url(servers: Stores) -> str:
    """The NATS server, without any stream."""
    client = await nats.connect(**servers.nats())
    jetstream = client.jetstream()
    for stream in await jetstream.streams_info():
        await jetstream.delete_stream(str(stream.config.name))
    await client.close()
    return servers.nats_url


@pytest.fixture
def nats_user(servers: Stores, nats_url: str) -> Callable[[str], dict[str, Any]]:
    """``nats.connect(**nats_user("ingest"))``: connect as a service or as admin."""
    return servers.nats


@pytest.fixture
async def valkey_url(servers: Stores) -> str:
    """The Valkey server, empty; the URL holds the password."""
    client = Redis.from_url(servers.valkey_url)
    await client.flushall()
    await client.aclose()
    return servers.valkey_url
