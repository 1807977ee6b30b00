"""A group of reports in one statement, straight from columns."""

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Final

from asyncpg.pgproto import pgproto

from chassis.postgres import Connection
from services.ingest.domain.columns import joined
from services.ingest.domain.groups import Append, Changes, Claim, Key, Plan

# An id that may be one of ours, read back by a client, already has a start.
CLAIM_IDENTITIES: Final = """
INSERT INTO event_identities (org_id, device_id, event_id, start_at)
SELECT claim.org_id, claim.device_id, claim.event_id, coalesce(
         CASE WHEN claim.may_be_ours THEN (
           SELECT known.start_at FROM events known
           WHERE known.org_id = claim.org_id AND known.event_id = claim.event_id
             AND known.device_id = claim.device_id
           LIMIT 1
         ) END,
         from_us(claim.start_us))
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::boolean[])
     AS claim (org_id, device_id, event_id, start_us, may_be_ours)
ORDER BY claim.org_id, claim.device_id, claim.event_id
ON CONFLICT ON CONSTRAINT event_identities_pkey DO NOTHING
"""

# A statement of its own: it must see what the claims had to wait for.
FIND_OTHER_STARTS: Final = """
SELECT uuid_send(known.org_id) || uuid_send(known.device_id) || uuid_send(known.event_id) AS key,
       to_us(known.start_at) AS start_us
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[])
     AS claim (org_id, device_id, event_id, start_us)
JOIN event_identities known USING (org_id, device_id, event_id)
WHERE known.start_at <> from_us(claim.start_us)
"""

# Arrays by append ($1 to $5) and by event, whose first column says which append it is of. An event
# that is known grows when it was reported longer, unless a person touched it. Rows come sorted by
# identity, so that two groups never wait for one another in a circle.
APPEND_EVENTS: Final = """
WITH incoming AS (
  SELECT ($1::uuid[])[report.append] AS org_id,
         ($2::uuid[])[report.append] AS user_id,
         ($3::uuid[])[report.append] AS device_id,
         ($4::text[])[report.append] AS source,
         from_us(($5::bigint[])[report.append]) AS received_at,
         report.event_id,
         from_us(report.start_us) AS start_at,
         from_us(report.end_us) AS end_at,
         from_us(nullif(report.claimed_end_us, report.end_us)) AS claimed_end_at,
         report.flags, report.app, report.title, report.url, report.project, report.file,
         report.language, report.category, report.data
  FROM unnest($6::int[], $7::uuid[], $8::bigint[], $9::bigint[], $10::bigint[], $11::smallint[],
              $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
              $18::text[], $19::text[])
       AS report (append, event_id, start_us, end_us, claimed_end_us, flags,
                  app, title, url, project, file, language, category, data)
), stored AS (
  INSERT INTO events AS known
    (org_id, user_id, device_id, source, received_at, event_id, start_at, end_at, claimed_end_at,
     flags, app, title, url, project, file, language, category, data)
  SELECT org_id, user_id, device_id, source, received_at, event_id, start_at, end_at,
         claimed_end_at, flags, coalesce(app, ''), coalesce(title, ''), coalesce(url, ''),
         coalesce(project, ''), coalesce(file, ''), coalesce(language, ''),
         coalesce(category, ''), coalesce(data, '')
  FROM incoming
  ORDER BY org_id, event_id, device_id
  ON CONFLICT ON CONSTRAINT events_pkey DO UPDATE
  SET end_at = excluded.end_at, claimed_end_at = excluded.claimed_end_at, flags = excluded.flags,
      source = excluded.source, app = excluded.app, title = excluded.title, url = excluded.url,
      project = excluded.project, file = excluded.file, language = excluded.language,
      category = excluded.category, data = excluded.data
  WHERE known.revision = 0 AND known.user_id = excluded.user_id
    AND coalesce(excluded.claimed_end_at, excluded.end_at)
        > coalesce(known.claimed_end_at, known.end_at)
  RETURNING new.org_id, new.device_id, new.event_id,
            coalesce(old.claimed_end_at, old.end_at) AS known_end_at
)
SELECT total.fresh,
       CASE WHEN total.fresh < $20 THEN (
         SELECT array_agg(uuid_send(org_id) || uuid_send(device_id) || uuid_send(event_id))
         FROM stored
       ) END AS keys,
       CASE WHEN total.fresh < $20 THEN (
         SELECT array_agg(to_us(known_end_at)) FROM stored
       ) END AS known_ends_us
FROM (SELECT count(*) AS fresh FROM stored WHERE known_end_at IS NULL) AS total
"""


async def claim_identities(
    conn: Connection, appends: Sequence[Append], claims: Mapping[Key, Claim]
) -> dict[Key, int]:
    """Takes the ids that clients chose; the true start, in µs, of every id in `claims`."""
    starts = {key: claim.start_us for key, claim in claims.items()}
    if not claims:
        return starts
    owners = [appends[claim.append] for claim in claims.values()]
    keys = [
        [owner.org_id for owner in owners],
        [owner.device_id for owner in owners],
        [pgproto.UUID(key[-16:]) for key in claims],
        list(starts.values()),
    ]
    may_be_ours = [claim.chosen.may_be_ours for claim in claims.values()]
    status = await conn.execute(CLAIM_IDENTITIES, *keys, may_be_ours)
    if int(status.rpartition(" ")[2]) < len(claims) or any(may_be_ours):
        for key, start_us in await conn.fetch(FIND_OTHER_STARTS, *keys):
            starts[Key(key)] = start_us
    return starts


async def append_events(conn: Connection, plan: Plan) -> Changes | None:
    """Stores the contenders of a group; None when every one of them was new."""
    appends, contenders = plan.appends, plan.contenders
    columns = joined(
        [append.columns.take(those) for append, those in zip(appends, contenders, strict=True)]
    )
    if not len(columns):
        return {}
    row = await conn.fetchrow(
        APPEND_EVENTS,
        [append.org_id for append in appends],
        [append.user_id for append in appends],
        [append.device_id for append in appends],
        [append.source for append in appends],
        [append.received_us for append in appends],
        # PostgreSQL counts from 1.
        list(
            chain.from_iterable(
                repeat(number, len(those)) for number, those in enumerate(contenders, start=1)
            )
        ),
        [pgproto.UUID(event_id) for event_id in columns.ids],
        columns.start_us,
        columns.end_us,
        columns.claimed_end_us,
        columns.flags,
        *columns.texts,
        len(columns),
    )
    if row is None or row["fresh"] == len(columns):
        return None
    keys = map(Key, row["keys"] or ())
    return dict(zip(keys, row["known_ends_us"] or (), strict=True))
