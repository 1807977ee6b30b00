"""The real gateway over HTTP, on real stores, with the other services as stubs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncpg
import httpx
import nats
import pytest
import pytest_asyncio
from pydantic import SecretStr

from chassis import telemetry
from chassis.lifecycle import Lifecycle
from deploy.embedded.ports import pick
from protos.ingest.v1 import ingest_pb2 as ingest
from services.gateway.app import build
from services.gateway.settings import Settings
from tests.integration.gateway.stubs import Recorder, accept_all, serving
from tests.support.eventually import eventually
from tests.support.servers import Stores

PASSWORD = "correct horse battery staple"
_numbers = count(1)


@dataclass
class Person:
    """Somebody signed in."""

    email: str
    id: str
    org_id: str
    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.access_token}"}


@dataclass
class Gateway:
    """A running gateway: `http` talks to it, `services` is what it talks to."""

    http: httpx.AsyncClient
    services: Recorder
    settings: Settings
    dsn: str
    nats: dict[str, Any]
    people: list[Person] = field(default_factory=list)

    async def register(self, **body: Any) -> Person:
        """A new organization with its owner."""
        number = next(_numbers)
        body = {
            "email": f"owner{number}@example.com",
            "password": PASSWORD,
            "name": f"Owner {number}",
            "organization_name": f"Organization {number}",
        } | body
        reply = await self.http.post("/v1/auth/register", json=body)
        assert reply.status_code == 201, reply.text
        return person_of(reply.json())

    async def join(self, host: Person, role: str, **body: Any) -> Person:
        """A new member of the organization of `host`, who may invite."""
        email = f"{role}{next(_numbers)}@example.com"
        invited = await self.http.post(
            "/v1/invitations", json={"email": email, "role": role} | body, headers=host.headers
        )
        assert invited.status_code == 201, invited.text
        reply = await self.http.post(
            "/v1/invitations/accept",
            json={"token": invited.json()["token"], "name": role, "password": PASSWORD},
        )
        assert reply.status_code == 201, reply.text
        return person_of(reply.json())

    async def key(self, person: Person, *scopes: str, **body: Any) -> str:
        """A new API key."""
        reply = await self.http.post(
            "/v1/api-keys",
            json={"name": "key", "scopes": list(scopes)} | body,
            headers=person.headers,
        )
        assert reply.status_code == 201, reply.text
        return str(reply.json()["key"])

    async def query(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of the accounts database."""
        conn = await asyncpg.connect(self.dsn, ssl=False)
        try:
            return list(await conn.fetch(sql, *args))
        finally:
            await conn.close()


def person_of(session: dict[str, Any]) -> Person:
    return Person(
        email=session["user"]["email"],
        id=session["user"]["id"],
        org_id=session["organization"]["id"],
        access_token=session["access_token"],
        refresh_token=session["refresh_token"],
    )


@pytest.fixture(scope="session")
def tracing() -> None:
    """Trace ids in problems, as in a real process; once, because OpenTelemetry allows no more."""
    telemetry.set_up("gateway", sample_ratio=1.0)


@asynccontextmanager
async def running(servers: Stores, dsn: str, **changes: Any) -> AsyncIterator[Gateway]:
    """One gateway process's worth of gateway, on `dsn`; `changes` are settings."""
    secrets = servers.folder.secrets
    port, grpc_port = pick(2)
    target = f"127.0.0.1:{grpc_port}"
    recorder = Recorder()
    user = servers.nats("gateway")
    values: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}",
        "postgres_dsn": SecretStr(dsn),
        "postgres_pool_size": 4,
        "nats_url": servers.nats_url,
        "nats_user": "gateway",
        "nats_password": SecretStr(user["password"]),
        "token_private_key_file": secrets / "token-private.pem",
        "token_public_key_file": secrets / "token-public.pem",
        "ingest_target": target,
        "sessions_target": target,
        "scheduler_target": target,
        "realtime_target": target,
        "sign_ins_per_minute": 1000,
        "sign_ins_per_minute_per_address": 1000,
        "bad_credentials_per_minute": 1000,
        "password_memory_kib": 64,
        "password_passes": 1,
        "drain_seconds": 2.0,
    }
    settings = Settings(**values | changes)
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(recorder, target, secrets / "token-public.pem"))
        lifecycle = Lifecycle(stack)
        await build(lifecycle, settings)
        async with asyncio.TaskGroup() as group:
            group.create_task(lifecycle.run(stopping, settings.drain_seconds))
            base = f"http://{settings.listen}"
            async with httpx.AsyncClient(base_url=base, timeout=20) as http:
                await answering(http)
                recorder.answers[ingest.AppendEventsRequest] = accept_all
                yield Gateway(http, recorder, settings, dsn, user)
            stopping.set()


async def answering(http: httpx.AsyncClient) -> None:
    async def is_ready() -> bool:
        try:
            return (await http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    await eventually(is_ready, within=10)


async def clean_streams(servers: Stores) -> None:
    client = await nats.connect(**servers.nats())
    jetstream = client.jetstream()
    for stream in await jetstream.streams_info():
        await jetstream.delete_stream(str(stream.config.name))
    await client.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(servers: Stores, tracing: None) -> AsyncIterator[Gateway]:
    """One gateway for a module; tests keep apart by having organizations of their own."""
    await clean_streams(servers)
    database = await servers.create_database("gateway")
    async with running(servers, database.dsn) as started:
        yield started
    await servers.drop_database(database)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owner(gateway: Gateway) -> Person:
    """Somebody for tests that change nothing about them."""
    return await gateway.register()
