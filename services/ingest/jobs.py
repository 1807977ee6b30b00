"""Upkeep the scheduler dispatches to this service."""

from collections.abc import Mapping
from typing import Final

from chassis import inbox
from chassis.clock import Clock
from chassis.jobs import Job, JobRun
from chassis.outbox import Outbox
from chassis.postgres import Pool
from services.ingest.domain.months import Month, ahead, first_us, month_of
from services.ingest.store import erasure
from services.ingest.store.partitions import Months

# A month that nobody made in time would be made by the first event in it, at that event's cost.
MONTHS_AHEAD: Final = 3
# Older than any stream keeps or any outbox refills, so no repeat can come.
INBOX_DAYS: Final = 8


class Upkeep:
    """The jobs of this service."""

    def __init__(
        self,
        *,
        pool: Pool,
        outbox: Outbox,
        months: Months,
        clock: Clock,
        retain_months: int | None,
    ) -> None:
        self._pool = pool
        self._outbox = outbox
        self._months = months
        self._clock = clock
        self._retain_months = retain_months

    def jobs(self) -> Mapping[str, Job]:
        """Each job by its name."""
        return {"partitions": self.partitions, "retention": self.retention}

    async def partitions(self, _run: JobRun | None = None) -> dict[str, object]:
        """Makes the partitions of the months and outbox days ahead."""
        self._months.forget()
        made = await self._months.ensure(ahead(self._clock.now_us(), MONTHS_AHEAD))
        return {"months": made, "outbox_days": await self._outbox.keep_partitions()}

    async def retention(self, _run: JobRun) -> dict[str, object]:
        """Forgets message ids that can't come back, and months past keeping when there is a limit."""
        async with self._outbox.begin() as tx:
            messages = await inbox.forget(tx.conn, days=INBOX_DAYS)
        dropped = identities = 0
        if self._retain_months is not None:
            first_kept = Month(month_of(self._clock.now_us()) - self._retain_months)
            dropped = await self._months.drop_before(first_kept)
            identities = await erasure.forget_identities(self._pool, before_us=first_us(first_kept))
        return {"messages": messages, "months": dropped, "identities": identities}
