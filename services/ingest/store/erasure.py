"""Forgetting: people who asked for it, and ids of events that are kept no longer."""

from typing import Final
from uuid import UUID

from chassis.postgres import Connection, Pool, transaction

# Ids go with their events, because nothing else says whose they are.
ERASE_EVENTS: Final = """
WITH gone AS (
  DELETE FROM events
  USING (
    SELECT event_id, device_id, start_at FROM events
    WHERE org_id = $1 AND user_id = $2
    ORDER BY start_at
    LIMIT $3
  ) AS chunk
  WHERE events.org_id = $1 AND events.event_id = chunk.event_id
    AND events.device_id = chunk.device_id AND events.start_at = chunk.start_at
  RETURNING events.device_id, events.event_id
), forgotten AS (
  DELETE FROM event_identities known
  USING gone
  WHERE known.org_id = $1 AND known.device_id = gone.device_id
    AND known.event_id = gone.event_id
)
SELECT count(*) FROM gone
"""

ERASE_BUCKETS: Final = """
DELETE FROM buckets WHERE org_id = $1 AND user_id = $2
"""

FORGET_IDENTITIES: Final = """
DELETE FROM event_identities
WHERE ctid IN (SELECT ctid FROM event_identities WHERE start_at < from_us($1) LIMIT $2)
"""

# Small enough that a transaction takes well under a second and nothing waits long behind it.
CHUNK: Final = 5000


async def erase_events(pool: Pool, org_id: UUID, user_id: UUID) -> int:
    """Deletes every event of a person, in many transactions; how many.

    Whatever interrupts it, doing it again deletes the rest.
    """
    total = 0
    while True:
        async with transaction(pool) as conn:
            count: int = await conn.fetchval(ERASE_EVENTS, org_id, user_id, CHUNK)
        total += count
        if count < CHUNK:
            return total


async def erase_buckets(conn: Connection, org_id: UUID, user_id: UUID) -> None:
    """Deletes every bucket of a person."""
    await conn.execute(ERASE_BUCKETS, org_id, user_id)


async def forget_identities(pool: Pool, *, before_us: int) -> int:
    """Deletes the ids of events that started before an instant, in many transactions; how many."""
    total = 0
    while True:
        async with transaction(pool) as conn:
            status = await conn.execute(FORGET_IDENTITIES, before_us, CHUNK)
        count = int(status.rpartition(" ")[2])
        total += count
        if count < CHUNK:
            return total
