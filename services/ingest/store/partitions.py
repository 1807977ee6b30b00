"""The months events lie in; one partition each."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

import asyncpg

from chassis.postgres import Pool, connection, transaction
from services.ingest.domain.months import Month, first_day, months_of

Result = TypeVar("Result")

LIST_MONTHS: Final = """
SELECT (extract(year FROM month) * 12 + extract(month FROM month) - 1)::int AS month
FROM (
  SELECT to_date(right(c.relname, 6), 'YYYYMM') AS month
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = 'events'::regclass
) AS partitions
"""

KEEP_MONTH: Final = """
SELECT events_keep_month($1)
"""

DROP_MONTH: Final = """
SELECT events_drop_month($1)
"""


class Months:
    """Makes the partitions that events need, and remembers which ones exist."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: set[Month] = set()

    async def ensure(self, months: Iterable[Month]) -> int:
        """Makes the partitions that are missing; how many. Safe beside other replicas."""
        missing = set(months) - self._known
        made = 0
        for month in sorted(missing):
            async with transaction(self._pool) as conn:
                made += bool(await conn.fetchval(KEEP_MONTH, first_day(month)))
            self._known.add(month)
        return made

    async def around(
        self, starts_us: Sequence[int], act: Callable[[], Awaitable[Result]]
    ) -> Result:
        """What `act` returns, once events that start then have a place.

        `act` is one transaction. It runs a second time when another replica dropped a month that
        was thought to exist.
        """
        months = months_of(starts_us)
        await self.ensure(months)
        try:
            return await act()
        except asyncpg.CheckViolationError as error:
            # A missing partition is a violation of no constraint in particular.
            if error.constraint_name:
                raise
            self.forget()
            await self.ensure(months)
            return await act()

    def forget(self) -> None:
        """Looks again at the next `ensure`."""
        self._known.clear()

    async def drop_before(self, first_kept: Month) -> int:
        """Drops whole months older than `first_kept`, with their events; how many."""
        async with connection(self._pool) as conn:
            months = [Month(row["month"]) for row in await conn.fetch(LIST_MONTHS)]
        dropped = 0
        for month in sorted(months):
            if month < first_kept:
                self._known.discard(month)
                async with transaction(self._pool) as conn:
                    dropped += bool(await conn.fetchval(DROP_MONTH, first_day(month)))
        return dropped
