"""Buckets: a source on a device, with a description."""

from typing import Final
from uuid import UUID

from chassis.errors import Exhausted
from chassis.postgres import Connection
from services.ingest.domain.buckets import MAX_BUCKETS, Bucket

# Until the transaction ends, so that two creations can't both find room for the last one.
LOCK_PERSON: Final = """
SELECT pg_advisory_xact_lock(hashtextextended($1, 1))
"""

COUNT_BUCKETS: Final = """
SELECT count(*) FROM buckets WHERE org_id = $1 AND user_id = $2
"""

ADD_BUCKET: Final = """
INSERT INTO buckets
  (org_id, user_id, name, device_id, type, client, hostname, data, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, from_us($9))
ON CONFLICT ON CONSTRAINT buckets_pkey DO NOTHING
RETURNING true
"""

DESCRIBE_BUCKET: Final = """
UPDATE buckets SET type = $4, client = $5, hostname = $6, data = $7
WHERE org_id = $1 AND user_id = $2 AND name = $3
"""

# The newest event is looked for month by month, newest month first; the first hit ends it.
LIST_BUCKETS: Final = """
SELECT name, device_id, type, client, hostname, data, to_us(created_at) AS created_us,
       coalesce(to_us(newest.end_at), 0) AS last_updated_us
FROM buckets
LEFT JOIN LATERAL (
  SELECT end_at FROM events
  WHERE events.org_id = buckets.org_id AND events.device_id = buckets.device_id
    AND events.source = buckets.name AND events.user_id IS NOT DISTINCT FROM buckets.user_id
    AND removed_at IS NULL
  ORDER BY start_at DESC
  LIMIT 1
) AS newest ON true
WHERE org_id = $1 AND user_id = $2 AND ($3 = '' OR name = $3)
ORDER BY name
LIMIT $4
"""

FIND_BUCKET: Final = """
SELECT device_id FROM buckets WHERE org_id = $1 AND user_id = $2 AND name = $3
"""

DELETE_BUCKET: Final = """
DELETE FROM buckets WHERE org_id = $1 AND user_id = $2 AND name = $3
"""


async def add(conn: Connection, org_id: UUID, user_id: UUID, bucket: Bucket) -> bool:
    """Creates a bucket; False when there is one of that name.

    Raises:
        Exhausted: the person has as many as one may have.
    """
    if await find(conn, org_id, user_id, bucket.name) is not None:
        return False
    await conn.execute(LOCK_PERSON, f"{org_id}/{user_id}")
    if await conn.fetchval(COUNT_BUCKETS, org_id, user_id) >= MAX_BUCKETS:
        raise Exhausted(f"A person may have {MAX_BUCKETS} buckets.")
    return bool(
        await conn.fetchval(
            ADD_BUCKET,
            org_id,
            user_id,
            bucket.name,
            bucket.device_id,
            bucket.type,
            bucket.client,
            bucket.hostname,
            bucket.data,
            bucket.created_us,
        )
    )


async def describe(conn: Connection, org_id: UUID, user_id: UUID, bucket: Bucket) -> None:
    """Overwrites what a bucket says about itself; its device stays."""
    await conn.execute(
        DESCRIBE_BUCKET,
        org_id,
        user_id,
        bucket.name,
        bucket.type,
        bucket.client,
        bucket.hostname,
        bucket.data,
    )


async def list_all(conn: Connection, org_id: UUID, user_id: UUID, *, name: str) -> list[Bucket]:
    """A person's buckets by name; all of them when `name` is empty."""
    rows = await conn.fetch(LIST_BUCKETS, org_id, user_id, name, MAX_BUCKETS)
    return [Bucket(*row) for row in rows]


async def find(conn: Connection, org_id: UUID, user_id: UUID, name: str) -> UUID | None:
    """The device of a bucket; None when the person has no such bucket."""
    device_id: UUID | None = await conn.fetchval(FIND_BUCKET, org_id, user_id, name)
    return device_id


async def delete(conn: Connection, org_id: UUID, user_id: UUID, name: str) -> None:
    """Removes the bucket itself; its events are removed before."""
    await conn.execute(DELETE_BUCKET, org_id, user_id, name)
