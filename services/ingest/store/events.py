"""Events one by one: reading, growing, replacing and removing them, always of one person."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from chassis.postgres import Connection
from services.ingest.domain.admission import MAX_DURATION_US
from services.ingest.domain.events import Content, Event
from services.ingest.domain.heartbeats import Beat, Neighbours

# Held until the transaction ends, so that heartbeats and replacements of one bucket take turns;
# taken in the order given. A statement of its own: what follows must see what it waited for.
LOCK_BUCKETS: Final = """
SELECT pg_advisory_xact_lock(hashtextextended(bucket, 0)) FROM unnest($1::text[]) AS bucket
"""

# For each heartbeat its bucket's last event that starts no later, locked, and the first one after
# that. Neither lies further away than an event can be long; $7 and $8 say so for all together, so
# that other months are not even opened. Of equal starts the one received last counts. IS NOT
# DISTINCT FROM keeps the planner from looking among all of the person's events instead of the
# bucket's, here and in the statements below that say so.
FIND_NEIGHBOURS: Final = """
WITH beats AS (
  SELECT number, org_id, user_id, device_id, source, start_us
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[])
       WITH ORDINALITY AS beat (org_id, user_id, device_id, source, start_us, number)
)
SELECT beats.number::int AS number, true AS is_before, found.event_id, found.device_id,
       found.source, to_us(found.start_at) AS start_us, to_us(found.end_at) AS end_us,
       to_us(coalesce(found.claimed_end_at, found.end_at)) AS claimed_end_us, found.flags,
       found.revision, to_us(found.received_at) AS received_us, found.app, found.title, found.url,
       found.project, found.file, found.language, found.category, found.data
FROM beats CROSS JOIN LATERAL (
  SELECT e.event_id, e.device_id, e.source, e.start_at, e.end_at, e.claimed_end_at, e.flags,
         e.revision, e.received_at, e.app, e.title, e.url, e.project, e.file, e.language,
         e.category, e.data
  FROM events e
  WHERE e.org_id = beats.org_id AND e.device_id = beats.device_id AND e.source = beats.source
    AND e.user_id IS NOT DISTINCT FROM beats.user_id AND e.removed_at IS NULL
    AND e.start_at <= from_us(beats.start_us) AND e.start_at >= from_us(beats.start_us - $6)
    AND e.start_at >= from_us($7) AND e.start_at <= from_us($8)
  ORDER BY e.start_at DESC, e.received_at DESC, e.event_id DESC
  LIMIT 1
  FOR UPDATE
) AS found
UNION ALL
SELECT beats.number::int, false, found.event_id, found.device_id,
       found.source, to_us(found.start_at), to_us(found.end_at),
       to_us(coalesce(found.claimed_end_at, found.end_at)), found.flags,
       found.revision, to_us(found.received_at), found.app, found.title, found.url,
       found.project, found.file, found.language, found.category, found.data
FROM beats CROSS JOIN LATERAL (
  SELECT e.event_id, e.device_id, e.source, e.start_at, e.end_at, e.claimed_end_at, e.flags,
         e.revision, e.received_at, e.app, e.title, e.url, e.project, e.file, e.language,
         e.category, e.data
  FROM events e
  WHERE e.org_id = beats.org_id AND e.device_id = beats.device_id AND e.source = beats.source
    AND e.user_id IS NOT DISTINCT FROM beats.user_id AND e.removed_at IS NULL
    AND e.start_at > from_us(beats.start_us) AND e.start_at <= from_us(beats.start_us + $6)
    AND e.start_at >= from_us($7) AND e.start_at <= from_us($8)
  ORDER BY e.start_at, e.received_at, e.event_id
  LIMIT 1
) AS found
"""

GROW_EVENTS: Final = """
UPDATE events
SET end_at = from_us(grown.end_us),
    claimed_end_at = nullif(from_us(grown.claimed_end_us), from_us(grown.end_us)),
    flags = grown.flags
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::smallint[])
     AS grown (org_id, event_id, device_id, start_us, end_us, claimed_end_us, flags)
WHERE events.org_id = grown.org_id AND events.event_id = grown.event_id
  AND events.device_id = grown.device_id AND events.start_at = from_us(grown.start_us)
  AND events.start_at >= from_us($8) AND events.start_at <= from_us($9)
"""

# Every row of one identity, tombstones included: one at each start the event was ever moved from.
FIND_VERSIONS: Final = """
SELECT removed_at IS NOT NULL AS is_removed, event_id, device_id, source,
       to_us(start_at) AS start_us, to_us(end_at) AS end_us,
       to_us(coalesce(claimed_end_at, end_at)) AS claimed_end_us, flags, revision,
       to_us(received_at) AS received_us,
       app, title, url, project, file, language, category, data
FROM events
WHERE org_id = $1 AND user_id = $2 AND device_id = $3 AND event_id = $4
ORDER BY start_at
FOR UPDATE
"""

# Over the row with the same start, be it the event as it was or the tombstone of an earlier move.
PUT_EVENT: Final = """
INSERT INTO events
  (org_id, user_id, device_id, source, received_at, event_id, start_at, end_at, claimed_end_at,
   revision, flags, app, title, url, project, file, language, category, data)
VALUES ($1, $2, $3, $4, from_us($5), $6, from_us($7), from_us($8),
        nullif(from_us($9), from_us($8)), $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
ON CONFLICT ON CONSTRAINT events_pkey DO UPDATE
SET end_at = excluded.end_at, claimed_end_at = excluded.claimed_end_at, removed_at = NULL,
    revision = excluded.revision, flags = excluded.flags, app = excluded.app,
    title = excluded.title, url = excluded.url, project = excluded.project, file = excluded.file,
    language = excluded.language, category = excluded.category, data = excluded.data
"""

# By id alone ($5 null), because an id on two devices of a person is one thing to that person; or on
# one device.
REMOVE_EVENT: Final = """
UPDATE events
SET removed_at = from_us($4), revision = revision + 1, app = '', title = '', url = '',
    project = '', file = '', language = '', category = '', data = ''
WHERE org_id = $1 AND user_id = $2 AND event_id = $3 AND removed_at IS NULL
  AND ($5::uuid IS NULL OR device_id = $5)
RETURNING event_id, device_id, source, to_us(start_at) AS start_us, to_us(end_at) AS end_us,
          to_us(coalesce(claimed_end_at, end_at)) AS claimed_end_us, flags, revision,
          to_us(received_at) AS received_us,
          app, title, url, project, file, language, category, data
"""

REMOVE_BUCKET_EVENTS: Final = """
UPDATE events
SET removed_at = from_us($5), revision = events.revision + 1, app = '', title = '', url = '',
    project = '', file = '', language = '', category = '', data = ''
FROM (
  SELECT event_id, start_at FROM events
  WHERE org_id = $1 AND device_id = $3 AND source = $4 AND user_id IS NOT DISTINCT FROM $2
    AND removed_at IS NULL
  ORDER BY start_at
  LIMIT $6
) AS chunk
WHERE events.org_id = $1 AND events.device_id = $3 AND events.event_id = chunk.event_id
  AND events.start_at = chunk.start_at
RETURNING events.event_id, events.device_id, events.source, to_us(events.start_at) AS start_us,
          to_us(events.end_at) AS end_us,
          to_us(coalesce(events.claimed_end_at, events.end_at)) AS claimed_end_us, events.flags,
          events.revision, to_us(events.received_at) AS received_us, events.app, events.title,
          events.url, events.project, events.file, events.language, events.category, events.data
"""


def event_of(row: asyncpg.Record) -> Event:
    """An event from a row that has its columns, the eight texts last."""
    return Event(
        event_id=row["event_id"],
        device_id=row["device_id"],
        source=row["source"],
        start_us=row["start_us"],
        end_us=row["end_us"],
        claimed_end_us=row["claimed_end_us"],
        flags=row["flags"],
        revision=row["revision"],
        received_us=row["received_us"],
        content=Content(*tuple(row)[-8:]),
    )


async def lock_buckets(conn: Connection, buckets: Sequence[str]) -> None:
    """Waits for the turn of each bucket (`Beat.bucket`, sorted); it ends with the transaction."""
    await conn.execute(LOCK_BUCKETS, buckets)


async def find_neighbours(conn: Connection, beats: Sequence[Beat]) -> list[Neighbours]:
    """What lies around each heartbeat in its bucket; the earlier of the two is locked."""
    rows = await conn.fetch(
        FIND_NEIGHBOURS,
        [beat.org_id for beat in beats],
        [beat.user_id for beat in beats],
        [beat.event.device_id for beat in beats],
        [beat.event.source for beat in beats],
        [beat.event.start_us for beat in beats],
        MAX_DURATION_US,
        min(beat.event.start_us for beat in beats) - MAX_DURATION_US,
        max(beat.event.start_us for beat in beats) + MAX_DURATION_US,
    )
    found = {(row["number"], row["is_before"]): event_of(row) for row in rows}
    return [
        Neighbours(found.get((number, True)), found.get((number, False)))
        for number in range(1, len(beats) + 1)
    ]


async def grow(conn: Connection, grown: Sequence[tuple[UUID, Event]]) -> None:
    """Writes ends and flags of n ≥ 0 known events, each with its organization."""
    if not grown:
        return
    await conn.execute(
        GROW_EVENTS,
        [org_id for org_id, _ in grown],
        [event.event_id for _, event in grown],
        [event.device_id for _, event in grown],
        [event.start_us for _, event in grown],
        [event.end_us for _, event in grown],
        [event.claimed_end_us for _, event in grown],
        [event.flags for _, event in grown],
        min(event.start_us for _, event in grown),
        max(event.start_us for _, event in grown),
    )


async def find_versions(
    conn: Connection, org_id: UUID, user_id: UUID, device_id: UUID, event_id: UUID
) -> tuple[Event | None, int]:
    """The live event of an identity, if there is one, and the highest revision it ever had."""
    rows = await conn.fetch(FIND_VERSIONS, org_id, user_id, device_id, event_id)
    live = [event_of(row) for row in rows if not row["is_removed"]]
    return (live[0] if live else None), max((row["revision"] for row in rows), default=0)


async def put(conn: Connection, org_id: UUID, user_id: UUID, event: Event) -> None:
    """Writes an event as it is given, its revision included."""
    await conn.execute(
        PUT_EVENT,
        org_id,
        user_id,
        event.device_id,
        event.source,
        event.received_us,
        event.event_id,
        event.start_us,
        event.end_us,
        event.claimed_end_us,
        event.revision,
        event.flags,
        *event.content,
    )


async def remove(
    conn: Connection,
    org_id: UUID,
    user_id: UUID,
    event_id: UUID,
    *,
    now_us: int,
    device_id: UUID | None = None,
) -> list[Event]:
    """Makes tombstones of what lives under an id, on every device or on one; the tombstones."""
    rows = await conn.fetch(REMOVE_EVENT, org_id, user_id, event_id, now_us, device_id)
    return [event_of(row) for row in rows]


async def remove_of_bucket(
    conn: Connection,
    org_id: UUID,
    user_id: UUID,
    device_id: UUID,
    source: str,
    *,
    now_us: int,
    limit: int,
) -> list[Event]:
    """Makes tombstones of up to `limit` events of a bucket, oldest first; the tombstones."""
    rows = await conn.fetch(REMOVE_BUCKET_EVENTS, org_id, user_id, device_id, source, now_us, limit)
    return [event_of(row) for row in rows]
