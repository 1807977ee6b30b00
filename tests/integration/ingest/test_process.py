"""The process itself: wiring, identity, and what SIGTERM leaves behind."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import asyncpg
import httpx
import nats
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from chassis import rpc
from chassis.clock import SystemClock
from chassis.errors import AppError, Forbidden
from chassis.identity import InternalSigner, Principal, load_private_key
from chassis.settings import GrpcSettings
from deploy.embedded import ports
from deploy.embedded.wheels import REPOSITORY
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement, UserErased
from protos.ingest.v1 import ingest_pb2 as pb
from protos.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from protos.scheduler.v1.announcements_pb2 import RunReported, WorkItem
from tests.integration.ingest.conftest import ACME, ANA, LAPTOP, SOURCE, columns, some_id
from tests.support.eventually import eventually
from tests.support.servers import Stores

CLOCK = SystemClock()
ANA_OF_ACME = Principal(
    org_id=ACME, user_id=ANA, role="member", scopes=frozenset({"events:write", "read"})
)


@dataclass
class Process:
    """`python -m services.ingest`, and somebody who calls it."""

    os_process: asyncio.subprocess.Process
    grpc_port: int
    health_port: int
    signer: InternalSigner

    async def call(self, method: str, request: Any, *, signer: InternalSigner | None = None) -> Any:
        token = (signer or self.signer).token_for(ANA_OF_ACME)
        async with rpc.channel(f"127.0.0.1:{self.grpc_port}", GrpcSettings()) as channel:
            stub = getattr(IngestServiceStub(channel), method)
            return await rpc.call(stub, request, token=token, clock=CLOCK, seconds=20)

    async def state(self) -> dict[str, str]:
        async with httpx.AsyncClient() as client:
            try:
                reply = await client.get(f"http://127.0.0.1:{self.health_port}/readyz")
            except httpx.TransportError:
                return {}
        answer: dict[str, str] = reply.json()
        return answer

    async def is_ready(self) -> bool:
        return set((await self.state()).values()) == {"ok"}


def request(first: int, count: int = 1) -> pb.AppendEventsRequest:
    start = CLOCK.now_us() - 3_600_000_000
    events = [
        {"start_us": start, "duration_us": 1000, "flags": 1, "title": f"{number}"}
        for number in range(first, first + count)
    ]
    return pb.AppendEventsRequest(device_id=str(LAPTOP), source=SOURCE, events=columns(*events))


@pytest.fixture
async def process(
    servers: Stores, dsn: str, nats_url: str, tmp_path: Path
) -> AsyncIterator[Process]:
    """A ready process."""
    grpc_port, health_port = ports.pick(2)
    keys = servers.credentials
    environment = {
        **os.environ,
        "INGEST_POSTGRES_DSN": dsn,
        "INGEST_NATS_URL": nats_url,
        "INGEST_NATS_USER": "ingest",
        "INGEST_NATS_PASSWORD": keys.nats["ingest"],
        "INGEST_GRPC_LISTEN": f"127.0.0.1:{grpc_port}",
        "INGEST_HEALTH_LISTEN": f"127.0.0.1:{health_port}",
        "INGEST_TOKEN_PUBLIC_KEY_FILE": str(keys.token_public_key),
        "INGEST_DRAIN_SECONDS": "10",
    }
    log = tmp_path / "ingest.log"
    with log.open("wb") as output:
        os_process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.ingest",
            cwd=REPOSITORY,
            env=environment,
            stdout=output,
            stderr=output,
        )
    signer = InternalSigner(load_private_key(keys.token_private_key), CLOCK)
    started = Process(os_process, grpc_port, health_port, signer)
    try:
        await eventually(started.is_ready, within=20)
        yield started
    finally:
        if os_process.returncode is None:
            os_process.kill()
            await os_process.wait()
        sys.stdout.write(log.read_text())


async def test_an_append_over_the_network_is_kept_and_announced(process: Process, servers: Stores):
    answer = await process.call("AppendEvents", request(0, 3))
    assert (answer.accepted, answer.duplicates) == (3, 0)
    listed = await process.call("ListEvents", pb.ListEventsRequest())
    assert sorted(one.title for one in listed.events) == ["0", "1", "2"]
    client = await nats.connect(**servers.nats())
    try:

        async def is_published() -> bool:
            state = (await client.jetstream().stream_info("ACTIVITY")).state
            return state.messages == 1

        await eventually(is_published)
    finally:
        await client.close()


async def test_only_the_gateways_tokens_open_the_door(process: Process):
    forged = InternalSigner(Ed25519PrivateKey.generate(), CLOCK)
    with pytest.raises(Forbidden):
        await process.call("AppendEvents", request(0), signer=forged)
    with pytest.raises(AppError) as refusal:
        await process.call("AppendEvents", pb.AppendEventsRequest(device_id="x", source="s"))
    assert refusal.value.violations[0].field == "device_id"


async def test_the_months_ahead_are_made_at_the_start(process: Process, dsn: str):
    conn = await asyncpg.connect(dsn, ssl=False)
    try:
        count = await conn.fetchval(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass"
        )
    finally:
        await conn.close()
    assert count == 4


async def test_an_erasure_announced_on_the_bus_is_carried_out(process: Process, servers: Stores):
    await process.call("AppendEvents", request(0, 3))
    client = await nats.connect(**servers.nats())
    try:
        jetstream = client.jetstream()
        await jetstream.add_stream(StreamConfig(name="ACCOUNTS", subjects=["accounts.v1.>"]))
        fact = UserErased(org_id=str(ACME), user_id=str(ANA))
        await jetstream.publish(
            f"accounts.v1.{ACME}", AccountsAnnouncement(user_erased=fact).SerializeToString()
        )

        async def is_erased() -> bool:
            counted = await process.call("CountEvents", pb.CountEventsRequest())
            return bool(counted.count == 0)

        await eventually(is_erased, within=20)
    finally:
        await client.close()


async def test_a_dispatched_job_is_done_and_reported(process: Process, servers: Stores):
    client = await nats.connect(**servers.nats())
    try:
        jetstream = client.jetstream()
        for name, subject in [("WORK", "work.v1.>"), ("REPORTS", "reports.v1.>")]:
            await jetstream.add_stream(
                StreamConfig(name=name, subjects=[subject], allow_atomic=True, allow_direct=True)
            )
        reports = await jetstream.pull_subscribe(
            "reports.v1.ingest", config=ConsumerConfig(ack_policy=AckPolicy.NONE)
        )
        item = WorkItem(
            run_id=some_id(),
            job="retention",
            args_json="{}",
            deadline_us=CLOCK.now_us() + 60_000_000,
            lease_token=7,
            attempt=1,
        )
        await jetstream.publish("work.v1.ingest.retention", item.SerializeToString())
        found = [
            RunReported.FromString((await reports.fetch(1, timeout=20))[0].data) for _ in range(2)
        ]
    finally:
        await client.close()
    assert [(one.run_id, one.state) for one in found] == [
        (item.run_id, "started"),
        (item.run_id, "succeeded"),
    ]
    assert json.loads(found[1].result_json) == {"messages": 0, "months": 0, "identities": 0}


@pytest.mark.parametrize("signal", [SIGTERM, SIGKILL])
async def test_what_was_acknowledged_is_kept_when_the_process_ends_under_load(
    process: Process, dsn: str, signal: int
):
    acknowledged: list[int] = []
    numbers = iter(range(100_000))

    async def send() -> None:
        for number in numbers:
            try:
                await process.call("AppendEvents", request(number))
            except (AppError, Exception):  # noqa: BLE001  # any answer but yes ends this sender
                return
            acknowledged.append(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(send())
        await eventually(lambda: len(acknowledged) > 50, within=20)
        process.os_process.send_signal(signal)
    async with asyncio.timeout(20):
        status = await process.os_process.wait()
    assert status == (0 if signal == SIGTERM else -SIGKILL)
    conn = await asyncpg.connect(dsn, ssl=False)
    try:
        rows = await conn.fetch("SELECT title FROM events")
        told = await conn.fetchval("SELECT count(*) FROM outbox WHERE stream = 'ACTIVITY'")
    finally:
        await conn.close()
    assert {str(number) for number in acknowledged} <= {row["title"] for row in rows}
    assert told > 0


def test_bad_settings_are_named_and_end_the_process_with_2():
    environment = {**os.environ, "INGEST_RETAIN_MONTHS": "0", "INGEST_GRPC_LISTEN": "127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-m", "services.ingest"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert b"INGEST_RETAIN_MONTHS" in done.stderr
