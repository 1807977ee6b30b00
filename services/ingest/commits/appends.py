"""Appends: a group of them in one transaction, with one announcement for each partition."""

from collections.abc import Sequence

from chassis.outbox import Outbox
from services.ingest.commits.group import Load
from services.ingest.domain import groups
from services.ingest.domain.groups import Answer, Append
from services.ingest.publishers import Recorded, announce
from services.ingest.store import appends as store
from services.ingest.store.partitions import Months


def load_of(append: Append) -> Load:
    """What an append brings to a group."""
    return Load(len(append.columns), append.columns.characters)


class Appends:
    """Commits groups of appends."""

    def __init__(self, *, outbox: Outbox, months: Months) -> None:
        self._outbox = outbox
        self._months = months

    async def commit(self, appends: Sequence[Append]) -> list[Answer]:
        """Keeps every event of n ≥ 1 appends; for each what it would have been told alone."""
        starts = [start for append in appends for start in append.columns.start_us]
        return await self._months.around(starts, lambda: self._store(appends))

    async def _store(self, appends: Sequence[Append]) -> list[Answer]:
        claims = groups.claims(appends)
        async with self._outbox.begin() as tx:
            starts = await store.claim_identities(tx.conn, appends, claims)
            plan = groups.plan(appends, starts)
            outcome = groups.settle(plan, await store.append_events(tx.conn, plan))
            pairs = zip(appends, outcome.changed, strict=True)
            announce(tx, (_recorded(append, changed) for append, changed in pairs))
        return outcome.answers


def _recorded(append: Append, changed: Sequence[int]) -> Recorded:
    return Recorded(
        append.org_id,
        append.user_id,
        append.device_id,
        append.source,
        append.columns.take(changed),
        revisions=[],
    )
