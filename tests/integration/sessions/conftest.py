"""A sessions service without its network: handlers on a real database."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid5

import pytest
from pydantic import SecretStr

from chassis import postgres
from chassis.clock import ManualClock
from chassis.ids import new_id
from chassis.outbox import Outbox
from chassis.postgres import Pool, connection
from chassis.settings import PostgresSettings
from chassis.subscription import Delivery
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement, MemberChanged, ZonePeriod
from protos.common.v1.types_pb2 import ActivityColumns
from protos.ingest.v1.announcements_pb2 import ActivityRecorded, SourceActivity
from protos.sessions.v1.announcements_pb2 import TimeChanged
from services.sessions.consumers import Consumers
from services.sessions.domain import Block, Rules, derive
from services.sessions.domain.categories import Categorizer
from services.sessions.domain.starter import STARTER_RULES
from services.sessions.recompute import Recomputer
from services.sessions.store import activity, blocks
from services.sessions.store.blocks import Window

SECOND_US = 1_000_000
T0 = 1_768_790_100 * SECOND_US
ORG = UUID(int=1)
ANA = UUID(int=0xA)
LAPTOP = UUID(int=0xD)


class NoBus:
    """Stands where the bus would; the relay is not run in these tests."""

    generation = 0


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


def event(
    start: float,
    duration: float,
    *,
    app: str = "Firefox",
    url: str = "",
    flags: int = 1,
    revision: int = 0,
    name: str = "",
) -> dict[str, object]:
    """One event, seconds after T0; its id comes from `name`, or from what it says."""
    identity = name or f"{start}|{app}|{url}|{flags & 7}"
    return {
        "event_id": uuid5(LAPTOP, identity).bytes,
        "start_us": T0 + round(start * SECOND_US),
        "duration_us": round(duration * SECOND_US),
        "flags": flags,
        "revision": revision,
        "app": app,
        "url": url,
    }


def recorded(
    events: Sequence[dict[str, object]],
    *,
    user: UUID = ANA,
    org: UUID = ORG,
    source: str = "test",
    device: UUID = LAPTOP,
) -> bytes:
    columns = ActivityColumns(**{key: [one[key] for one in events] for key in events[0]})
    return ActivityRecorded(
        org_id=str(org),
        activity=[
            SourceActivity(user_id=str(user), device_id=str(device), source=source, events=columns)
        ],
    ).SerializeToString()


@dataclass
class Work:
    """The service's handlers, its database, and what it announced."""

    pool: Pool
    outbox: Outbox
    recomputer: Recomputer
    consumers: Consumers
    rules: Rules = field(default_factory=Rules)
    categorize: Categorizer = field(default_factory=lambda: Categorizer(STARTER_RULES))

    async def hear(self, *payloads: bytes, ids: Sequence[str] = ()) -> None:
        """Delivers announcements of activity as one batch."""
        names = ids or [str(new_id()) for _ in payloads]
        await self.consumers.on_activity(
            [delivery(n, p) for n, p in zip(names, payloads, strict=True)]
        )

    async def move(self, revision: int, *zones: tuple[int, str], day_start: int = 0) -> None:
        """Delivers a person's zones."""
        member = MemberChanged(
            org_id=str(ORG),
            user_id=str(ANA),
            revision=revision,
            name="Ana",
            role="member",
            is_active=True,
            day_start_minutes=day_start,
            zones=[ZonePeriod(from_us=at, time_zone=zone) for at, zone in zones],
        )
        payload = AccountsAnnouncement(member_changed=member).SerializeToString()
        await self.consumers.on_accounts([delivery(str(new_id()), payload)])

    async def stored(self, user: UUID = ANA) -> list[Block]:
        async with connection(self.pool) as conn:
            [found] = await blocks.load(conn, [Window((ORG, user), 0, 1 << 60)])
        return found

    async def batch(self, user: UUID = ANA) -> list[Block]:
        """What one recomputation of everything stored gives."""
        async with connection(self.pool) as conn:
            [evidence] = await activity.load(conn, [((ORG, user), 0, 1 << 60)])
        return derive(user, evidence, self.rules, self.categorize)

    async def announced(self) -> list[TimeChanged]:
        """Every announcement so far, oldest first."""
        async with connection(self.pool) as conn:
            rows = await conn.fetch("SELECT payload FROM outbox ORDER BY id")
        return [TimeChanged.FromString(row["payload"]) for row in rows]


@pytest.fixture
async def work(database: Callable[[str], Awaitable[str]]) -> AsyncIterator[Work]:
    dsn = await database("sessions")
    clock = ManualClock()
    async with postgres.pool(
        PostgresSettings(postgres_dsn=SecretStr(dsn)), application="test"
    ) as pool:
        outbox = Outbox(
            pool=pool, bus=NoBus(), service="sessions", clock=clock, streams=["SESSIONS"]
        )  # type: ignore[arg-type]  # never relayed
        recomputer = Recomputer(rules=Rules(), categorize=Categorizer(STARTER_RULES), clock=clock)
        yield Work(pool, outbox, recomputer, Consumers(outbox=outbox, recomputer=recomputer))
