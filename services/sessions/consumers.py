"""What sessions listens to: activity by partition, and accounts."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from chassis import inbox, telemetry
from chassis.bus import PARTITIONS
from chassis.outbox import Outbox, Transaction
from chassis.subscription import Delivery, Subscription
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement, MemberChanged, UserErased
from protos.ingest.v1.announcements_pb2 import ActivityRecorded
from services.sessions.recompute import Change, Recomputer, announce
from services.sessions.store import activity, members, timelines
from services.sessions.store.activity import ActivityRows
from services.sessions.store.timelines import Person

# A batch is one transaction: large enough to catch up fast, small enough that the next message
# of the partition does not wait long behind it.
MAX_BATCH: Final = 64


def subscriptions(consumers: "Consumers") -> list[Subscription]:
    """One durable consumer per partition keeps a person's events in order; replicas share them."""
    return [
        *(
            Subscription(
                stream="ACTIVITY",
                consumer=f"sessions-activity-{partition}",
                subjects=(f"activity.v1.{partition}.>",),
                handler=consumers.on_activity(f"sessions-activity-{partition}"),
                max_batch=MAX_BATCH,
            )
            for partition in range(PARTITIONS)
        ),
        Subscription(
            stream="ACCOUNTS",
            consumer="sessions-accounts-all",
            subjects=("accounts.v1.>",),
            handler=consumers.on_accounts,
            max_batch=MAX_BATCH,
        ),
    ]


class Consumers:
    """One handler per announcement; each is one transaction."""

    def __init__(self, *, outbox: Outbox, recomputer: Recomputer) -> None:
        self._outbox = outbox
        self._recomputer = recomputer

    def on_activity(self, consumer: str) -> "ActivityHandler":
        """The handler of one partition."""
        return ActivityHandler(consumer, self._outbox, self._recomputer)

    async def on_accounts(self, batch: Sequence[Delivery]) -> None:
        """Keeps zones current and forgets the erased."""
        async with self._outbox.begin() as tx:
            for delivery in await inbox.claim(tx.conn, "sessions-accounts-all", batch):
                message = AccountsAnnouncement.FromString(delivery.data)
                match message.WhichOneof("fact"):
                    case "member_changed":
                        await self._member_changed(tx, message.member_changed)
                    case "user_erased":
                        await _user_erased(tx, message.user_erased)
                    case _:
                        # Credentials don't concern derived time.
                        pass

    async def _member_changed(self, tx: Transaction, member: MemberChanged) -> None:
        person = (UUID(member.org_id), UUID(member.user_id))
        version = (await timelines.lock(tx.conn, [person]))[person]
        if not await members.upsert(tx.conn, person, member):
            return
        for days in await self._recomputer.reroll(tx.conn, person, version):
            announce(tx, person, version, Change([], [], days))


class ActivityHandler:
    """Applies the activity of one partition."""

    def __init__(self, consumer: str, outbox: Outbox, recomputer: Recomputer) -> None:
        self._consumer = consumer
        self._outbox = outbox
        self._recomputer = recomputer

    async def __call__(self, batch: Sequence[Delivery]) -> None:
        """Stores events, then rederives what they touch, person by person."""
        async with self._outbox.begin() as tx:
            fresh = await inbox.claim(tx.conn, self._consumer, batch)
            rows, traces = _rows(fresh)
            if not rows.people:
                return
            versions = await timelines.lock(tx.conn, sorted(rows.people))
            changed = await activity.upsert(tx.conn, rows)
            for person, spans in changed.items():
                version = versions[person]
                # Each person's change continues the trace of the events that caused it.
                with telemetry.span("sessions recompute", parents=[traces[person]]):
                    change = await self._recomputer.apply(tx.conn, person, spans, version)
                    announce(tx, person, version, change)


def _rows(batch: Sequence[Delivery]) -> tuple[ActivityRows, dict[Person, str]]:
    """The events of a batch, and for each person the trace of the last message about them."""
    rows = ActivityRows()
    traces: dict[Person, str] = {}
    for delivery in batch:
        message = ActivityRecorded.FromString(delivery.data)
        org_id = UUID(message.org_id)
        for source in message.activity:
            user_id = UUID(source.user_id)
            rows.add(org_id, user_id, UUID(source.device_id), source.source, source.events)
            traces[org_id, user_id] = delivery.traceparent
    return rows, traces


async def _user_erased(tx: Transaction, erased: UserErased) -> None:
    person = (UUID(erased.org_id), UUID(erased.user_id))
    await timelines.lock(tx.conn, [person])
    await timelines.forget(tx.conn, person)
