"""What ingest listens to: people who asked to be forgotten."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from chassis import inbox
from chassis.log import get_logger
from chassis.outbox import Outbox
from chassis.postgres import Pool
from chassis.subscription import Delivery, Subscription
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement
from services.ingest.store import erasure

log = get_logger(__name__)

ACCOUNTS: Final = "ingest-accounts-all"
# An erasure takes as long as the person has events; the pull loop keeps the message alive.
MAX_BATCH: Final = 16


def subscriptions(consumers: "Consumers") -> list[Subscription]:
    """Everything this service hears."""
    return [
        Subscription(
            stream="ACCOUNTS",
            consumer=ACCOUNTS,
            subjects=("accounts.v1.>",),
            handler=consumers.on_accounts,
            max_batch=MAX_BATCH,
        )
    ]


class Consumers:
    """One handler per announcement."""

    def __init__(self, *, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def on_accounts(self, batch: Sequence[Delivery]) -> None:
        """Erases who asked for it; members and credentials are no business of raw events.

        Events go in many transactions before the one that claims the message: interrupted, the
        message comes again and the rest is erased.
        """
        people = [
            (UUID(fact.user_erased.org_id), UUID(fact.user_erased.user_id))
            for fact in (AccountsAnnouncement.FromString(delivery.data) for delivery in batch)
            if fact.HasField("user_erased")
        ]
        for org_id, user_id in people:
            count = await erasure.erase_events(self._pool, org_id, user_id)
            log.info("person.erased", org_id=str(org_id), user_id=str(user_id), events=count)
        async with self._outbox.begin() as tx:
            await inbox.claim(tx.conn, ACCOUNTS, batch)
            for org_id, user_id in people:
                await erasure.erase_buckets(tx.conn, org_id, user_id)
