"""Which replicas claim, how late they are, and the partitions they keep."""

from typing import Final
from uuid import UUID

from chassis.clock import to_us
from chassis.postgres import Connection

BEAT: Final = """
INSERT INTO replicas (id) VALUES ($1)
ON CONFLICT ON CONSTRAINT replicas_pkey DO UPDATE SET seen_at = now()
"""

COUNT_REPLICAS: Final = """
SELECT count(*) FROM replicas WHERE seen_at > now() - make_interval(secs => $1)
"""

LEAVE: Final = """
DELETE FROM replicas WHERE id = $1
"""

FORGET_REPLICAS: Final = """
DELETE FROM replicas WHERE seen_at < now() - interval '1 day'
"""

NOW: Final = """
SELECT now()
"""

# Fires older than the longest misfire window can't happen again.
KEEP_PARTITIONS: Final = """
SELECT keep_day_partitions('fires', 'scheduled_for', $1, 8)
     + keep_day_partitions('runs_day', 'shelved_on', $1, 1)
     + keep_day_partitions('runs_week', 'shelved_on', $1, 7)
     + keep_day_partitions('attempts_day', 'shelved_on', $1, 1)
     + keep_day_partitions('attempts_week', 'shelved_on', $1, 7)
"""

DAYS_AHEAD: Final = 7


async def beat(conn: Connection, replica: UUID) -> None:
    """This replica could claim just now."""
    await conn.execute(BEAT, replica)


async def leave(conn: Connection, replica: UUID) -> None:
    """This replica stops."""
    await conn.execute(LEAVE, replica)


async def count(conn: Connection, within_seconds: float) -> int:
    """Replicas that could claim within that time."""
    found: int = await conn.fetchval(COUNT_REPLICAS, within_seconds)
    return found


async def forget(conn: Connection) -> None:
    """Removes replicas that have been gone for a day."""
    await conn.execute(FORGET_REPLICAS)


async def now_us(conn: Connection) -> int:
    """PostgreSQL's clock, which decides what is due."""
    return to_us(await conn.fetchval(NOW))


async def keep_partitions(conn: Connection) -> int:
    """Makes the partitions of the days ahead and drops those past keeping; how many changed."""
    changed: int = await conn.fetchval(KEEP_PARTITIONS, DAYS_AHEAD)
    return changed
