"""Lists and counts of one person's events, newest first.

A range is answered from two indexes: nearly all events that reach into it start no earlier than an
hour before it; the longer ones, none longer than 31 days, have an index of their own. Statements
about a bucket say IS NOT DISTINCT FROM, so that its index is used (store/events.py).
"""

from typing import Final, NamedTuple
from uuid import UUID

from chassis.postgres import Pool, connection, transaction
from services.ingest.domain.events import Event
from services.ingest.domain.paging import Place
from services.ingest.store.events import event_of

LIST_OF_USER: Final = """
SELECT event_id, device_id, source, start_us, end_us, claimed_end_us, flags, revision, received_us,
       app, title, url, project, file, language, category, data
FROM (
  (SELECT event_id, device_id, source, to_us(start_at) AS start_us,
          to_us(end_at) AS end_us, to_us(coalesce(claimed_end_at, end_at)) AS claimed_end_us,
          flags, revision, to_us(received_at) AS received_us,
          app, title, url, project, file, language, category, data, start_at
   FROM events
   WHERE org_id = $1 AND user_id = $2
     AND ($8::uuid IS NULL OR device_id = $8) AND ($9::text IS NULL OR source = $9)
     AND removed_at IS NULL
     AND start_at >= from_us($3 - 3600000000)
     AND (start_at >= from_us($3) OR end_at > from_us($3))
     AND start_at <= from_us($4) AND (start_at, event_id, device_id) < (from_us($4), $5, $6)
   ORDER BY start_at DESC, event_id DESC, device_id DESC
   LIMIT $7)
  UNION ALL
  (SELECT event_id, device_id, source, to_us(start_at) AS start_us,
          to_us(end_at) AS end_us, to_us(coalesce(claimed_end_at, end_at)) AS claimed_end_us,
          flags, revision, to_us(received_at) AS received_us,
          app, title, url, project, file, language, category, data, start_at
   FROM events
   WHERE org_id = $1 AND user_id = $2
     AND ($8::uuid IS NULL OR device_id = $8) AND ($9::text IS NULL OR source = $9)
     AND removed_at IS NULL
     AND is_long AND start_at >= from_us($3 - 2678400000000)
     AND start_at < from_us($3 - 3600000000) AND end_at > from_us($3)
     AND start_at <= from_us($4) AND (start_at, event_id, device_id) < (from_us($4), $5, $6)
   ORDER BY start_at DESC, event_id DESC, device_id DESC
   LIMIT $7)
) AS page
ORDER BY start_at DESC, event_id DESC, device_id DESC
LIMIT $7
"""

LIST_OF_BUCKET: Final = """
SELECT event_id, device_id, source, start_us, end_us, claimed_end_us, flags, revision, received_us,
       app, title, url, project, file, language, category, data
FROM (
  (SELECT event_id, device_id, source, to_us(start_at) AS start_us,
          to_us(end_at) AS end_us, to_us(coalesce(claimed_end_at, end_at)) AS claimed_end_us,
          flags, revision, to_us(received_at) AS received_us,
          app, title, url, project, file, language, category, data, start_at
   FROM events
   WHERE org_id = $1 AND user_id IS NOT DISTINCT FROM $2 AND device_id = $8 AND source = $9
     AND removed_at IS NULL
     AND start_at >= from_us($3 - 3600000000)
     AND (start_at >= from_us($3) OR end_at > from_us($3))
     AND start_at <= from_us($4) AND (start_at, event_id, device_id) < (from_us($4), $5, $6)
   ORDER BY start_at DESC, event_id DESC, device_id DESC
   LIMIT $7)
  UNION ALL
  (SELECT event_id, device_id, source, to_us(start_at) AS start_us,
          to_us(end_at) AS end_us, to_us(coalesce(claimed_end_at, end_at)) AS claimed_end_us,
          flags, revision, to_us(received_at) AS received_us,
          app, title, url, project, file, language, category, data, start_at
   FROM events
   WHERE org_id = $1 AND user_id = $2 AND device_id = $8 AND source = $9
     AND removed_at IS NULL
     AND is_long AND start_at >= from_us($3 - 2678400000000)
     AND start_at < from_us($3 - 3600000000) AND end_at > from_us($3)
     AND start_at <= from_us($4) AND (start_at, event_id, device_id) < (from_us($4), $5, $6)
   ORDER BY start_at DESC, event_id DESC, device_id DESC
   LIMIT $7)
) AS page
ORDER BY start_at DESC, event_id DESC, device_id DESC
LIMIT $7
"""

# Few events share the first 52 bits of an id: find those first, then put them in order.
LIST_BY_ID: Final = """
WITH found AS MATERIALIZED (
  SELECT event_id, device_id, source, start_at, end_at, claimed_end_at, flags, revision,
         received_at, app, title, url, project, file, language, category, data
  FROM events
  WHERE org_id = $1 AND user_id = $2 AND event_id >= $10 AND event_id <= $11
    AND removed_at IS NULL
    AND ($8::uuid IS NULL OR device_id = $8) AND ($9::text IS NULL OR source = $9)
)
SELECT event_id, device_id, source, to_us(start_at) AS start_us, to_us(end_at) AS end_us,
       to_us(coalesce(claimed_end_at, end_at)) AS claimed_end_us, flags, revision,
       to_us(received_at) AS received_us,
       app, title, url, project, file, language, category, data
FROM found
WHERE (start_at >= from_us($3) OR end_at > from_us($3))
  AND (start_at, event_id, device_id) < (from_us($4), $5, $6)
ORDER BY start_at DESC, event_id DESC, device_id DESC
LIMIT $7
"""

COUNT_OF_USER: Final = """
SELECT
  (SELECT count(*) FROM events
   WHERE org_id = $1 AND user_id = $2
     AND ($5::uuid IS NULL OR device_id = $5) AND ($6::text IS NULL OR source = $6) AND removed_at IS NULL
     AND start_at < from_us($4)
     AND start_at >= from_us($3 - 3600000000)
     AND (start_at >= from_us($3) OR end_at > from_us($3)))
  +
  (SELECT count(*) FROM events
   WHERE org_id = $1 AND user_id = $2
     AND ($5::uuid IS NULL OR device_id = $5) AND ($6::text IS NULL OR source = $6) AND removed_at IS NULL
     AND start_at < from_us($4)
     AND is_long AND start_at >= from_us($3 - 2678400000000)
     AND start_at < from_us($3 - 3600000000) AND end_at > from_us($3))
"""

COUNT_OF_BUCKET: Final = """
SELECT
  (SELECT count(*) FROM events
   WHERE org_id = $1 AND user_id IS NOT DISTINCT FROM $2 AND device_id = $5 AND source = $6 AND removed_at IS NULL
     AND start_at < from_us($4)
     AND start_at >= from_us($3 - 3600000000)
     AND (start_at >= from_us($3) OR end_at > from_us($3)))
  +
  (SELECT count(*) FROM events
   WHERE org_id = $1 AND user_id = $2 AND device_id = $5 AND source = $6 AND removed_at IS NULL
     AND start_at < from_us($4)
     AND is_long AND start_at >= from_us($3 - 2678400000000)
     AND start_at < from_us($3 - 3600000000) AND end_at > from_us($3))
"""

# A page stops early rather than outgrow a gRPC message (16 MB), whatever its events carry.
MAX_PAGE_CHARACTERS: Final = 3_000_000
_FETCH: Final = 500


class Wanted(NamedTuple):
    """Which of a person's events: those that overlap `[from_us, until_us)`, of what is not None.

    `ids` are the first and the last event id wanted.
    """

    org_id: UUID
    user_id: UUID
    from_us: int
    until_us: int
    device_id: UUID | None
    source: str | None
    ids: tuple[UUID, UUID] | None = None


async def read_page(
    pool: Pool, wanted: Wanted, below: Place, limit: int
) -> tuple[list[Event], bool]:
    """Up to `limit` events below a place, and whether there are more."""
    query, arguments = _query(wanted, below, limit + 1)
    events: list[Event] = []
    characters = 0
    async with transaction(pool) as conn:
        async for row in conn.cursor(query, *arguments, prefetch=min(limit + 1, _FETCH)):
            if len(events) == limit or characters > MAX_PAGE_CHARACTERS:
                return events, True
            event = event_of(row)
            characters += sum(map(len, event.content))
            events.append(event)
    return events, False


def _query(wanted: Wanted, below: Place, limit: int) -> tuple[str, tuple[object, ...]]:
    arguments = (wanted.org_id, wanted.user_id, wanted.from_us, *below, limit, wanted.device_id)
    if wanted.ids is not None:
        return LIST_BY_ID, (*arguments, wanted.source, *wanted.ids)
    # A plan for both at once would suit neither.
    if wanted.device_id is not None and wanted.source is not None:
        return LIST_OF_BUCKET, (*arguments, wanted.source)
    return LIST_OF_USER, (*arguments, wanted.source)


async def count(pool: Pool, wanted: Wanted) -> int:
    """How many events there are; `ids` are not looked at."""
    is_bucket = wanted.device_id is not None and wanted.source is not None
    async with connection(pool) as conn:
        number: int = await conn.fetchval(
            COUNT_OF_BUCKET if is_bucket else COUNT_OF_USER,
            wanted.org_id,
            wanted.user_id,
            wanted.from_us,
            wanted.until_us,
            wanted.device_id,
            wanted.source,
        )
    return number
