"""Attempts of runs: what was heard of each, kept where its run is kept."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import asyncpg

from chassis.clock import to_datetime, to_us
from chassis.postgres import Connection
from services.scheduler.domain.runs import Attempt, Place

LOAD_ATTEMPTS: Final = """
SELECT org_id, run_id, number, lease_token, started_at, finished_at, outcome, worker, progress,
       result, error_kind, error_message, shelf, shelved_on
FROM attempts
WHERE org_id = ANY($1::uuid[]) AND run_id = ANY($2::uuid[])
ORDER BY run_id, number
"""

LOAD_LIVE_ATTEMPTS: Final = """
SELECT org_id, run_id, number, lease_token, started_at, finished_at, outcome, worker, progress,
       result, error_kind, error_message, shelf, shelved_on
FROM attempts
WHERE shelf = 'live' AND org_id = ANY($1::uuid[]) AND run_id = ANY($2::uuid[])
ORDER BY run_id, number
"""

REMOVE_ATTEMPTS: Final = """
DELETE FROM attempts AS a
USING unnest($1::uuid[], $2::uuid[], $3::text[], $4::date[]) AS v (org_id, run_id, shelf, day)
WHERE a.org_id = v.org_id AND a.run_id = v.run_id AND a.shelf = v.shelf AND a.shelved_on = v.day
"""

UPSERT_ATTEMPTS: Final = """
INSERT INTO attempts
  (org_id, run_id, number, lease_token, started_at, finished_at, outcome, worker, progress, result,
   error_kind, error_message, shelf, shelved_on)
SELECT * FROM unnest(
  $1::uuid[], $2::uuid[], $3::int[], $4::bigint[], $5::timestamptz[], $6::timestamptz[],
  $7::text[], $8::text[], $9::float8[], $10::text[], $11::text[], $12::text[], $13::text[],
  $14::date[])
ON CONFLICT ON CONSTRAINT attempts_pkey DO UPDATE
SET started_at = excluded.started_at, finished_at = excluded.finished_at,
    outcome = excluded.outcome, worker = excluded.worker, progress = excluded.progress,
    result = excluded.result, error_kind = excluded.error_kind,
    error_message = excluded.error_message
"""


async def load(
    conn: Connection, runs: Sequence[tuple[UUID, UUID]], *, only_live: bool = False
) -> dict[UUID, dict[int, Attempt]]:
    """The attempts of runs given by (organization, id): by run, then by number, in order."""
    found: dict[UUID, dict[int, Attempt]] = {}
    if not runs:
        return found
    query = LOAD_LIVE_ATTEMPTS if only_live else LOAD_ATTEMPTS
    for row in await conn.fetch(query, *map(list, zip(*runs, strict=True))):
        found.setdefault(row["run_id"], {})[row["number"]] = _attempt(row)
    return found


async def remove(conn: Connection, places: Mapping[tuple[UUID, UUID], Place]) -> None:
    """Takes the attempts of runs off a place, before they are put on another."""
    if places:
        rows = [(org_id, run_id, *place) for (org_id, run_id), place in places.items()]
        await conn.execute(REMOVE_ATTEMPTS, *map(list, zip(*rows, strict=True)))


async def upsert(conn: Connection, attempts: Sequence[tuple[Attempt, Place]]) -> None:
    """Puts attempts where their runs are."""
    if not attempts:
        return
    rows = [
        (
            *(one.org_id, one.run_id, one.number, one.lease_token),
            *(_moment(one.started_us), _moment(one.finished_us)),
            *(one.outcome, one.worker, one.progress, one.result, one.error_kind),
            *(one.error_message, *place),
        )
        for one, place in attempts
    ]
    await conn.execute(UPSERT_ATTEMPTS, *map(list, zip(*rows, strict=True)))


def _moment(us: int | None) -> object:
    return None if us is None else to_datetime(us)


def _attempt(row: asyncpg.Record) -> Attempt:
    return Attempt(
        org_id=row["org_id"],
        run_id=row["run_id"],
        number=row["number"],
        lease_token=row["lease_token"],
        started_us=to_us(row["started_at"]) if row["started_at"] else None,
        finished_us=to_us(row["finished_at"]) if row["finished_at"] else None,
        outcome=row["outcome"],
        worker=row["worker"],
        progress=row["progress"],
        result=row["result"],
        error_kind=row["error_kind"],
        error_message=row["error_message"],
    )
