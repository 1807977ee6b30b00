"""What sessions listens to: activity by partition, and accounts."""

import asyncio
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
# One name for all partitions: a message belongs to one of them, and its id to it alone.
ACTIVITY_INBOX: Final = "sessions-activity"


def subscriptions(consumers: "Consumers") -> list[Subscription]:
    """One durable consumer per partition keeps a person's events in order; replicas share them."""
    return [
        *(
            Subscription(
                stream="ACTIVITY",
                consumer=f"sessions-activity-{partition}",
                subjects=(f"activity.v1.{partition}.>",),
                handler=consumers.on_activity,
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
        self.on_activity = ActivityHandler(outbox=outbox, recomputer=recomputer)

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
            announce(tx, person, Change(version, days=days))


class _Batch:
    """One partition's deliveries on their way into a commit."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self.deliveries = deliveries
        self.is_done = False


class ActivityHandler:
    """Applies activity. Batches of several partitions that wait together share one commit."""

    def __init__(self, *, outbox: Outbox, recomputer: Recomputer) -> None:
        self._outbox = outbox
        self._recomputer = recomputer
        # Bounded by the partitions: each has at most one batch on its way.
        self._waiting: list[_Batch] = []
        self._turn = asyncio.Lock()

    async def __call__(self, deliveries: Sequence[Delivery]) -> None:
        """Returns when the deliveries took effect; raises when they did not."""
        batch = _Batch(deliveries)
        self._waiting.append(batch)
        async with self._turn:
            if batch in self._waiting:
                group = self._take(batch)
                await self._apply([delivery for one in group for delivery in one.deliveries])
                for one in group:
                    one.is_done = True
        if not batch.is_done:
            # Another batch took this one along and failed; it may be the other's fault.
            async with self._turn:
                await self._apply(deliveries)

    def _take(self, batch: _Batch) -> list[_Batch]:
        """The batch and those that wait with it, up to what one commit should hold."""
        self._waiting.remove(batch)
        group, count = [batch], len(batch.deliveries)
        while self._waiting and count + len(self._waiting[0].deliveries) <= MAX_BATCH:
            group.append(self._waiting.pop(0))
            count += len(group[-1].deliveries)
        return group

    async def _apply(self, deliveries: Sequence[Delivery]) -> None:
        """Stores events, then rederives what they touch."""
        async with self._outbox.begin() as tx:
            fresh = await inbox.claim(tx.conn, ACTIVITY_INBOX, deliveries)
            rows, traces = _rows(fresh)
            if not rows.people:
                return
            versions = await timelines.lock(tx.conn, sorted(rows.people))
            changed = await activity.upsert(tx.conn, rows)
            changes = await self._recomputer.apply(tx.conn, changed, versions)
            for person, change in changes.items():
                # Each person's change continues the trace of the events that caused it.
                with telemetry.span("sessions recompute", parents=[traces[person]]):
                    announce(tx, person, change)


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
