"""The gateway with the real ingest and the real realtime, each wired as its process wires it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import nats
from nats.aio.client import Client
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from chassis.lifecycle import Lifecycle
from deploy.embedded.ports import pick
from protos.realtime.v1.realtime_pb2 import LiveMessage
from services.ingest.app import build as build_ingest
from services.ingest.settings import Settings as IngestSettings
from services.realtime.app import build as build_realtime
from services.realtime.settings import Settings as RealtimeSettings
from tests.integration.gateway.conftest import Gateway, Person, clean_streams, running
from tests.support.servers import Stores

DRAIN_SECONDS = 2.0


@dataclass
class Neighbourhood:
    """A gateway whose calls and messages are real."""

    gateway: Gateway
    nats: Client

    @property
    def url(self) -> str:
        """The public interface over HTTP."""
        return f"http://{self.gateway.settings.listen}"

    async def publish(self, org_id: str, channel: str, data: Any, event: str = "note") -> None:
        """Says something on a live channel, as realtime would."""
        message = LiveMessage(
            event=event, data_json=msgspec.json.encode(data), at_us=1_768_790_100_000_000
        )
        await self.nats.jetstream().publish(
            f"live.v1.{UUID(org_id)}.{channel}", message.SerializeToString()
        )

    async def tell(self, person: Person, data: Any) -> None:
        """Says something to one person."""
        await self.publish(person.org_id, f"user.{person.id}", data)


@asynccontextmanager
async def neighbourhood(servers: Stores, **changes: Any) -> AsyncIterator[Neighbourhood]:
    """Everything on new databases; `changes` are settings of the gateway."""
    await clean_streams(servers)
    own, events = await servers.create_database("gateway"), await servers.create_database("ingest")
    ingest_port, realtime_port = pick(2)
    realtime = RealtimeSettings(
        valkey_url=SecretStr(servers.valkey_url),
        leave_seconds=0.3,
        **common(servers, "realtime", realtime_port),
    )
    async with (
        process(build_ingest, ingest_settings(servers, events.dsn, ingest_port)),
        process(build_realtime, realtime),
        running(
            servers,
            own.dsn,
            ingest_target=f"127.0.0.1:{ingest_port}",
            realtime_target=f"127.0.0.1:{realtime_port}",
            **changes,
        ) as gateway,
    ):
        client = await nats.connect(**servers.nats())
        yield Neighbourhood(gateway, client)
        await client.close()
    await servers.drop_database(own)
    await servers.drop_database(events)


def ingest_settings(servers: Stores, dsn: str, port: int) -> IngestSettings:
    """Ingest on a database, at a port."""
    return IngestSettings(postgres_dsn=SecretStr(dsn), **common(servers, "ingest", port))


def common(servers: Stores, service: str, port: int) -> dict[str, Any]:
    """What every service is told."""
    return {
        "nats_url": servers.nats_url,
        "nats_user": service,
        "nats_password": SecretStr(servers.nats(service)["password"]),
        "token_public_key_file": servers.folder.secrets / "token-public.pem",
        "grpc_listen": f"127.0.0.1:{port}",
        "drain_seconds": DRAIN_SECONDS,
    }


@asynccontextmanager
async def process(
    build: Callable[[Lifecycle, Any], Awaitable[None]], settings: Any
) -> AsyncIterator[None]:
    """One service in this process, from its composition root to its drain."""
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        lifecycle = Lifecycle(stack)
        await build(lifecycle, settings)
        async with asyncio.TaskGroup() as group:
            group.create_task(lifecycle.run(stopping, settings.drain_seconds))
            yield
            stopping.set()


class Socket:
    """A WebSocket client that speaks the live protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **message: Any) -> None:
        await self.connection.send(msgspec.json.encode(message).decode())

    async def hear(self, kind: str = "", *, event: str = "") -> dict[str, Any]:
        """The next frame, or the next one of a kind or event."""
        async with asyncio.timeout(10):
            while True:
                frame: dict[str, Any] = msgspec.json.decode(await self.connection.recv())
                if kind in {"", frame["type"]} and event in {"", frame.get("event", "")}:
                    return frame

    async def subscribe(self, channel: str = "me", since: str | None = None) -> dict[str, Any]:
        await self.say(type="subscribe", channel=channel, since=since)
        return await self.hear("subscribed")

    async def closed(self) -> int | None:
        """The code it is closed with."""
        async with asyncio.timeout(10):
            while True:
                try:
                    await self.connection.recv()
                except ConnectionClosed:
                    return self.connection.close_code


@asynccontextmanager
async def socket(
    town: Neighbourhood,
    person: Person | None = None,
    *,
    ticket: str = "",
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Socket]:
    """A connection as a person, with a ticket, or with headers of one's own."""
    url = town.url.replace("http", "ws") + "/v1/live" + (f"?ticket={ticket}" if ticket else "")
    own = person.headers if person is not None else headers
    async with connect(url, additional_headers=own) as connection:
        yield Socket(connection)
