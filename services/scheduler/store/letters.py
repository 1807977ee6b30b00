"""Dead letters and their replays."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from chassis.clock import to_datetime, to_us
from chassis.errors import Conflict
from chassis.postgres import Connection, constraints
from services.scheduler.domain.letters import Letter, Replay

# A letter that died as a replay names the letter that was replayed.
INDEX_LETTERS: Final = """
INSERT INTO dead_letters
  (org_id, id, service, consumer, stream, stream_seq, subject, message_id, type, cause, error,
   fingerprint, deliveries, replay_count, traceparent, died_at, payload, headers, replay_of)
SELECT v.org_id, v.id, v.service, v.consumer, v.stream, v.stream_seq, v.subject, v.message_id,
       v.type, v.cause, v.error, v.fingerprint, v.deliveries, v.replay_count, v.traceparent,
       v.died_at, v.payload, v.headers,
       (SELECT r.letter_id FROM replays r
        WHERE r.org_id = v.org_id AND r.message_id = v.message_id AND r.number = v.replay_count)
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::int[], $14::int[],
            $15::text[], $16::timestamptz[], $17::bytea[], $18::text[])
  AS v (org_id, id, service, consumer, stream, stream_seq, subject, message_id, type, cause, error,
        fingerprint, deliveries, replay_count, traceparent, died_at, payload, headers)
ON CONFLICT ON CONSTRAINT dead_letters_pkey DO NOTHING
"""

LIST_LETTERS: Final = """
SELECT l.org_id, l.id, l.service, l.consumer, l.stream, l.stream_seq, l.subject, l.message_id,
       l.type, l.cause, l.error, l.fingerprint, l.deliveries, l.replay_count, l.replay_of,
       l.traceparent, l.state, l.died_at, ''::bytea AS payload, '' AS headers
FROM unnest($1::uuid[]) AS o (org_id)
CROSS JOIN LATERAL (
  SELECT org_id, id, service, consumer, stream, stream_seq, subject, message_id, type, cause, error,
         fingerprint, deliveries, replay_count, replay_of, traceparent, state, died_at
  FROM dead_letters
  WHERE dead_letters.org_id = o.org_id AND state = $2 AND ($3 = '' OR consumer = $3)
    AND ($4::timestamptz IS NULL OR (died_at, id) < ($4, $5))
  ORDER BY died_at DESC, id DESC
  LIMIT $6
) AS l
ORDER BY l.died_at DESC, l.id DESC
LIMIT $6
"""

GET_LETTER: Final = """
SELECT org_id, id, service, consumer, stream, stream_seq, subject, message_id, type, cause, error,
       fingerprint, deliveries, replay_count, replay_of, traceparent, state, died_at, payload,
       headers
FROM dead_letters
WHERE org_id = ANY($1::uuid[]) AND id = $2
"""

LOCK_OPEN: Final = """
SELECT id, subject FROM dead_letters
WHERE org_id = ANY($1::uuid[]) AND id = ANY($2::uuid[]) AND state = 'open'
ORDER BY org_id, id
FOR UPDATE
"""

CLOSE_LETTERS: Final = """
UPDATE dead_letters SET state = $3, closed_at = now(), closed_by = $4
WHERE org_id = ANY($1::uuid[]) AND id = ANY($2::uuid[]) AND state = 'open'
"""

ADD_REPLAYS: Final = """
INSERT INTO replays (org_id, message_id, number, letter_id, requested_by)
SELECT l.org_id, l.message_id,
       coalesce((SELECT max(r.number) FROM replays r
                 WHERE r.org_id = l.org_id AND r.message_id = l.message_id), 0)
         + row_number() OVER (PARTITION BY l.org_id, l.message_id ORDER BY l.id),
       l.id, $3
FROM dead_letters l
WHERE l.org_id = ANY($1::uuid[]) AND l.id = ANY($2::uuid[]) AND l.state = 'open'
"""

CLAIM_REPLAYS: Final = """
SELECT r.org_id, r.letter_id, r.message_id, r.number, l.consumer, l.subject, l.type, l.traceparent,
       l.payload
FROM replays r JOIN dead_letters l ON l.org_id = r.org_id AND l.id = r.letter_id
WHERE r.published_at IS NULL AND r.try_at <= now()
ORDER BY r.try_at
LIMIT $1
FOR UPDATE OF r SKIP LOCKED
"""

MARK_REPLAYED: Final = """
UPDATE replays SET published_at = now() WHERE org_id = $1 AND message_id = $2 AND number = $3
"""

POSTPONE_REPLAY: Final = """
UPDATE replays SET try_at = now() + make_interval(secs => $4)
WHERE org_id = $1 AND message_id = $2 AND number = $3
"""

FORGET_LETTERS: Final = """
DELETE FROM dead_letters WHERE died_at < now() - make_interval(days => $1)
"""

FORGET_CLOSER: Final = """
UPDATE dead_letters SET closed_by = NULL WHERE org_id = $1 AND closed_by = $2
"""

FORGET_REQUESTER: Final = """
UPDATE replays SET requested_by = NULL WHERE org_id = $1 AND requested_by = $2
"""


class Before(NamedTuple):
    """Where a page of letters ended."""

    died_at: datetime
    id: UUID


async def index(conn: Connection, letters: Sequence[Letter]) -> None:
    """Stores letters; one that is there already stays as it is."""
    rows = [
        (
            *(one.org_id, one.id, one.service, one.consumer, one.stream, one.stream_seq),
            *(one.subject, one.message_id, one.type, one.cause, one.error, one.fingerprint),
            *(one.deliveries, one.replay_count, one.traceparent, to_datetime(one.died_us)),
            *(one.payload, one.headers),
        )
        for one in letters
    ]
    await conn.execute(INDEX_LETTERS, *map(list, zip(*rows, strict=True)))


async def list_letters(
    conn: Connection,
    orgs: Sequence[UUID],
    *,
    state: str,
    consumer: str,
    before: Before | None,
    limit: int,
) -> list[Letter]:
    """Newest first, without payloads and headers."""
    place = before or (None, None)
    rows = await conn.fetch(LIST_LETTERS, orgs, state, consumer, *place, limit)
    return [_letter(row) for row in rows]


async def get(conn: Connection, orgs: Sequence[UUID], letter_id: UUID) -> Letter | None:
    """One letter; None when these organizations have none of that id."""
    row = await conn.fetchrow(GET_LETTER, orgs, letter_id)
    return _letter(row) if row else None


async def lock_open(conn: Connection, orgs: Sequence[UUID], ids: Sequence[UUID]) -> dict[UUID, str]:
    """Those of the letters that are open, with their subjects; they stay so until the end."""
    return {row["id"]: row["subject"] for row in await conn.fetch(LOCK_OPEN, orgs, ids)}


async def close(
    conn: Connection, orgs: Sequence[UUID], ids: Sequence[UUID], state: str, by: UUID
) -> None:
    """Marks open letters as replayed or discarded."""
    await conn.execute(CLOSE_LETTERS, orgs, ids, state, by)


async def add_replays(
    conn: Connection, orgs: Sequence[UUID], ids: Sequence[UUID], by: UUID
) -> None:
    """Records that open letters are to be published again.

    Raises:
        Conflict: someone replays letters of the same message at this moment.
    """
    busy = Conflict("Another replay of the same message is being recorded; try again.")
    with constraints({"replays_pkey": busy}):
        await conn.execute(ADD_REPLAYS, orgs, ids, by)


async def claim_replays(conn: Connection, limit: int) -> list[Replay]:
    """Replays to publish, which nobody else sees until the transaction ends."""
    return [Replay(**dict(row.items())) for row in await conn.fetch(CLAIM_REPLAYS, limit)]


async def mark_replayed(conn: Connection, replay: Replay) -> None:
    """The replay is in its stream."""
    await conn.execute(MARK_REPLAYED, replay.org_id, replay.message_id, replay.number)


async def postpone(conn: Connection, replay: Replay, seconds: float) -> None:
    """The replay could not be published."""
    key = (replay.org_id, replay.message_id, replay.number)
    await conn.execute(POSTPONE_REPLAY, *key, seconds)


async def forget(conn: Connection, days: int) -> int:
    """Removes letters older than `days`, with their replays; how many."""
    status = await conn.execute(FORGET_LETTERS, days)
    return int(status.rpartition(" ")[2])


async def forget_person(conn: Connection, org_id: UUID, user_id: UUID) -> None:
    """Removes who replayed and discarded, where it was them."""
    await conn.execute(FORGET_CLOSER, org_id, user_id)
    await conn.execute(FORGET_REQUESTER, org_id, user_id)


def _letter(row: asyncpg.Record) -> Letter:
    return Letter(
        org_id=row["org_id"],
        id=row["id"],
        service=row["service"],
        consumer=row["consumer"],
        stream=row["stream"],
        stream_seq=row["stream_seq"],
        subject=row["subject"],
        message_id=row["message_id"],
        type=row["type"],
        cause=row["cause"],
        error=row["error"],
        fingerprint=row["fingerprint"],
        deliveries=row["deliveries"],
        replay_count=row["replay_count"],
        traceparent=row["traceparent"],
        died_us=to_us(row["died_at"]),
        payload=row["payload"],
        headers=row["headers"],
        state=row["state"],
        replay_of=row["replay_of"],
    )
