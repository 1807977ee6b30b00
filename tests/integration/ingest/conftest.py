"""Replicas of ingest without their network: servicer, commits and consumers on a real database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from chassis import postgres
from chassis.bus import Bus
from chassis.clock import Clock, ManualClock
from chassis.identity import InternalVerifier, Principal, set_principal
from chassis.ids import new_id
from chassis.outbox import Outbox
from chassis.postgres import Pool, connection, transaction
from chassis.settings import PostgresSettings
from chassis.subscription import Delivery
from protos.common.v1.types_pb2 import ActivityColumns, PageRequest, TimeRange
from protos.ingest.v1 import ingest_pb2 as pb
from protos.ingest.v1.announcements_pb2 import ActivityRecorded
from services.ingest.commits.appends import Appends
from services.ingest.commits.group import GroupCommit
from services.ingest.commits.heartbeats import Beats
from services.ingest.consumers import Consumers
from services.ingest.domain.groups import Answer, Append
from services.ingest.domain.heartbeats import Beat, Heard
from services.ingest.edits import Edits
from services.ingest.jobs import Upkeep
from services.ingest.publishers import ACTIVITY_STREAM
from services.ingest.rpc import IngestServicer
from services.ingest.store.partitions import Months

KEY = Ed25519PrivateKey.generate()
SECOND_US = 1_000_000
T0 = 1_768_790_100 * SECOND_US
NOW = T0 + 86_400 * SECOND_US
ACME, RIVAL = UUID(int=0xACE), UUID(int=0xBAD)
ANA, BEN = UUID(int=0xA), UUID(int=0xB)
LAPTOP, PHONE = UUID(int=0xD), UUID(int=0xF)
SOURCE = "aw-watcher-window_laptop"
TEXTS = ("app", "title", "url", "project", "file", "language", "category", "data_json")


class NoBus:
    """Stands where the bus would; the relay is not run in tests that use it."""

    generation = 0


def event(start: float, duration: float = 5, *, flags: int = 1, **said: Any) -> dict[str, Any]:
    """One event, seconds after T0."""
    start_us, end_us = (T0 + round(at * SECOND_US) for at in (start, start + duration))
    return {
        "start_us": start_us,
        "duration_us": end_us - start_us,
        "flags": flags,
        "app": "Firefox",
        **said,
    }


def columns(*events: Mapping[str, Any]) -> ActivityColumns:
    """The events side by side; columns that none of them uses stay absent."""
    names = ("start_us", "duration_us", "flags", *TEXTS)
    absent = {name: "" if name in TEXTS else 0 for name in names}
    return ActivityColumns(
        **{
            name: [one.get(name, absent[name]) for one in events]
            for name in names
            if any(name in one for one in events)
        }
    )


@dataclass
class Agent:
    """Somebody who calls one replica."""

    servicer: IngestServicer
    principal: Principal

    async def call(self, method: str, request: Any) -> Any:
        set_principal(self.principal)
        return await getattr(self.servicer, method)(request, None)

    async def append(
        self,
        *events: Mapping[str, Any],
        ids: list[str] | None = None,
        device: UUID = LAPTOP,
        source: str = SOURCE,
    ) -> pb.AppendEventsResponse:
        request = pb.AppendEventsRequest(
            device_id=str(device), source=source, client_ids=ids or [], events=columns(*events)
        )
        answer: pb.AppendEventsResponse = await self.call("AppendEvents", request)
        return answer

    async def sent(self, *events: Mapping[str, Any], **more: Any) -> tuple[int, int]:
        """Accepted and duplicates of an append from which nothing is rejected."""
        answer = await self.append(*events, **more)
        assert not answer.rejected
        return answer.accepted, answer.duplicates

    async def beat(
        self,
        start: float,
        duration: float = 0,
        *,
        pulse: float = 5,
        device: UUID = LAPTOP,
        source: str = SOURCE,
        **said: Any,
    ) -> pb.StoredEvent:
        request = pb.HeartbeatRequest(
            device_id=str(device),
            source=source,
            pulsetime_us=round(pulse * SECOND_US),
            event=columns(event(start, duration, **{"flags": 0, **said})),
        )
        answer: pb.HeartbeatResponse = await self.call("Heartbeat", request)
        return answer.event

    async def page(
        self,
        *,
        span: tuple[float, float] | None = None,
        cursor: str = "",
        limit: int = 0,
        **more: Any,
    ) -> pb.ListEventsResponse:
        request = pb.ListEventsRequest(page=PageRequest(cursor=cursor, limit=limit), **more)
        if span:
            request.range.CopyFrom(time_range(*span))
        answer: pb.ListEventsResponse = await self.call("ListEvents", request)
        return answer

    async def events(self, **more: Any) -> list[pb.StoredEvent]:
        """Everything, newest first."""
        return list((await self.page(limit=10_000, **more)).events)

    async def count(self, *, span: tuple[float, float] | None = None, **more: Any) -> int:
        request = pb.CountEventsRequest(**more)
        if span:
            request.range.CopyFrom(time_range(*span))
        return int((await self.call("CountEvents", request)).count)

    async def replace(
        self, event_id: str, changed: Mapping[str, Any], *, source: str = SOURCE
    ) -> pb.StoredEvent:
        request = pb.ReplaceEventRequest(
            device_id=str(LAPTOP), source=source, event_id=event_id, event=columns(changed)
        )
        answer: pb.ReplaceEventResponse = await self.call("ReplaceEvent", request)
        return answer.event

    async def delete(self, event_id: str) -> bool:
        request = pb.DeleteEventRequest(event_id=event_id)
        return bool((await self.call("DeleteEvent", request)).was_removed)

    async def put_bucket(
        self, name: str = SOURCE, *, should_update: bool = False, **said: Any
    ) -> bool:
        bucket = pb.Bucket(name=name, **{"device_id": str(LAPTOP), **said})
        request = pb.PutBucketRequest(bucket=bucket, should_update=should_update)
        return bool((await self.call("PutBucket", request)).was_created)

    async def buckets(self, name: str = "") -> list[pb.Bucket]:
        return list((await self.call("ListBuckets", pb.ListBucketsRequest(name=name))).buckets)

    async def delete_bucket(self, name: str = SOURCE) -> int:
        request = pb.DeleteBucketRequest(name=name)
        return int((await self.call("DeleteBucket", request)).removed_events)


def time_range(start: float, end: float) -> TimeRange:
    return TimeRange(from_us=T0 + round(start * SECOND_US), until_us=T0 + round(end * SECOND_US))


def spans(events: list[pb.StoredEvent]) -> list[tuple[float, float]]:
    """Start after T0 and duration, in seconds."""
    return [((one.start_us - T0) / SECOND_US, one.duration_us / SECOND_US) for one in events]


def delivery(message_id: str, payload: bytes) -> Delivery:
    return Delivery(
        message_id=message_id,
        subject="test",
        data=payload,
        type="",
        traceparent="",
        attempt=1,
        stream_seq=1,
        reply="",
        headers={},
    )


@dataclass
class Replica:
    """The parts of one process."""

    pool: Pool
    outbox: Outbox
    months: Months
    appends: GroupCommit[Append, Answer]
    beats: GroupCommit[Beat, Heard]
    consumers: Consumers
    upkeep: Upkeep
    servicer: IngestServicer
    clock: Clock
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def agent(
        self,
        user: UUID = ANA,
        org: UUID = ACME,
        *,
        scopes: frozenset[str] = frozenset({"events:write", "read"}),
    ) -> Agent:
        principal = Principal(org_id=org, user_id=user, role="member", scopes=scopes)
        return Agent(self.servicer, principal)

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        async with connection(self.pool) as conn:
            return await conn.fetch(query, *arguments)

    async def announced(self) -> list[ActivityRecorded]:
        """Every announcement of activity so far, oldest first."""
        query = "SELECT payload FROM outbox WHERE stream = 'ACTIVITY' ORDER BY id"
        return [ActivityRecorded.FromString(row["payload"]) for row in await self.fetch(query)]

    async def partitions(self) -> set[str]:
        query = """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                   WHERE i.inhparent = 'events'::regclass"""
        return {row["relname"] for row in await self.fetch(query)}


@asynccontextmanager
async def blocked(replica: Replica) -> AsyncIterator[None]:
    """Holds up everything that reads or writes events, until the block ends."""
    async with transaction(replica.pool) as conn:
        await conn.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        yield


async def waiting_for_lock(replica: Replica) -> list[int]:
    """The database sessions of ingest that wait for a lock."""
    rows = await replica.fetch(
        """SELECT pid FROM pg_stat_activity
           WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    )
    return [row["pid"] for row in rows]


MakeReplica = Callable[..., Awaitable[Replica]]


@asynccontextmanager
async def running(
    dsn: str, clock: Clock, bus: Bus | None, retain_months: int | None
) -> AsyncIterator[Replica]:
    settings = PostgresSettings(postgres_dsn=SecretStr(dsn))
    mode = "force_generic_plan"
    async with postgres.pool(settings, application="ingest", plan_cache_mode=mode) as pool:
        streams = [ACTIVITY_STREAM]
        outbox = Outbox(
            pool=pool,
            bus=bus or NoBus(),
            service="ingest",
            clock=clock,
            streams=streams,
        )
        months = Months(pool)
        appends = GroupCommit(commit=Appends(outbox=outbox, months=months).commit, clock=clock)
        beats = GroupCommit(commit=Beats(outbox=outbox, months=months).commit, clock=clock)
        replica = Replica(
            pool=pool,
            outbox=outbox,
            months=months,
            appends=appends,
            beats=beats,
            consumers=Consumers(pool=pool, outbox=outbox),
            upkeep=Upkeep(
                pool=pool, outbox=outbox, months=months, clock=clock, retain_months=retain_months
            ),
            servicer=IngestServicer(
                pool=pool,
                appends=appends,
                beats=beats,
                edits=Edits(outbox=outbox, months=months, clock=clock),
                clock=clock,
                verifier=InternalVerifier(KEY.public_key(), clock),
                retain_months=retain_months,
            ),
            clock=clock,
        )
        tasks = [asyncio.create_task(one.run(replica.stopping)) for one in (appends, beats)]
        try:
            yield replica
        finally:
            replica.stopping.set()
            async with asyncio.timeout(10):
                await asyncio.wait(tasks)


@pytest.fixture
async def dsn(database: Callable[[str], Awaitable[str]]) -> str:
    """A new database of ingest."""
    return await database("ingest")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def make_replica(dsn: str, clock: ManualClock) -> AsyncIterator[MakeReplica]:
    """``await make_replica()``: one more replica on the test's database."""
    async with AsyncExitStack() as stack:

        async def make(
            *, at: Clock | None = None, bus: Bus | None = None, retain_months: int | None = None
        ) -> Replica:
            return await stack.enter_async_context(running(dsn, at or clock, bus, retain_months))

        yield make


@pytest.fixture
async def replica(make_replica: MakeReplica) -> Replica:
    """One replica, with a clock of the test's own."""
    return await make_replica()


@pytest.fixture
def ana(replica: Replica) -> Agent:
    """A person with a laptop."""
    return replica.agent()


def some_id() -> str:
    return str(new_id())
