"""Upkeep of the scheduler's own database, dispatched to itself like everyone's."""

from collections.abc import Mapping
from typing import Final

from chassis import inbox
from chassis.jobs import Job, JobRun
from chassis.outbox import Outbox
from services.scheduler.store import letters, replicas

# Older than any stream keeps or any outbox refills, so no repeat can come.
INBOX_DAYS: Final = 8
# As long as the stream of dead letters; what is erased elsewhere is gone from here by then too.
LETTER_DAYS: Final = 30


def jobs(*, outbox: Outbox) -> Mapping[str, Job]:
    """The jobs of this service by name."""

    async def retention(_run: JobRun) -> dict[str, object]:
        async with outbox.begin() as tx:
            partitions = await replicas.keep_partitions(tx.conn)
        async with outbox.begin() as tx:
            forgotten = await inbox.forget(tx.conn, days=INBOX_DAYS)
        async with outbox.begin() as tx:
            forgotten_letters = await letters.forget(tx.conn, LETTER_DAYS)
            await replicas.forget(tx.conn)
        return {
            "partitions": partitions + await outbox.keep_partitions(),
            "inbox": forgotten,
            "letters": forgotten_letters,
        }

    return {"retention": retention}
