"""Runs as people see them: one, a page, and how many are under way."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from chassis.clock import to_us
from chassis.postgres import Connection
from services.scheduler.domain.runs import Run

GET_RUN: Final = """
SELECT org_id, id, schedule_id, job, scheduled_for, state, attempt, lease_token, max_attempts,
       retry_base_seconds, retry_cap_seconds, start_margin_seconds, max_runtime_seconds,
       is_waiting, args, priority, progress, result, stands_for, shelf, shelved_on
FROM runs
WHERE org_id = ANY($1::uuid[]) AND id = $2
"""

# One index scan for each organization, newest first, instead of a sort of all of them.
LIST_RUNS: Final = """
SELECT r.org_id, r.id, r.schedule_id, r.job, r.scheduled_for, r.state, r.attempt, r.lease_token,
       r.max_attempts, r.retry_base_seconds, r.retry_cap_seconds, r.start_margin_seconds,
       r.max_runtime_seconds, r.is_waiting, r.args, r.priority, r.progress, r.result, r.stands_for,
       r.shelf, r.shelved_on
FROM unnest($1::uuid[]) AS o (org_id)
CROSS JOIN LATERAL (
  SELECT org_id, id, schedule_id, job, scheduled_for, state, attempt, lease_token, max_attempts,
         retry_base_seconds, retry_cap_seconds, start_margin_seconds, max_runtime_seconds,
         is_waiting, args, priority, progress, result, stands_for, shelf, shelved_on
  FROM runs
  WHERE runs.org_id = o.org_id AND ($2::uuid IS NULL OR id < $2) AND ($3 = '' OR state = $3)
    AND ($4::uuid IS NULL OR schedule_id = $4)
  ORDER BY id DESC
  LIMIT $5
) AS r
ORDER BY r.id DESC
LIMIT $5
"""

COUNT_LIVE: Final = """
SELECT count(*) FILTER (WHERE state = 'queued') AS queued,
       count(*) FILTER (WHERE state = 'running') AS running
FROM runs WHERE shelf = 'live' AND org_id = ANY($1::uuid[])
"""


async def get(conn: Connection, orgs: Sequence[UUID], run_id: UUID) -> Run | None:
    """One run; None when these organizations have none of that id."""
    row = await conn.fetchrow(GET_RUN, orgs, run_id)
    return run_of(row) if row else None


async def list_runs(
    conn: Connection,
    orgs: Sequence[UUID],
    *,
    before: UUID | None,
    state: str,
    schedule_id: UUID | None,
    limit: int,
) -> list[Run]:
    """Newest first; ids are made in the order of time."""
    rows = await conn.fetch(LIST_RUNS, orgs, before, state, schedule_id, limit)
    return [run_of(row) for row in rows]


async def count_live(conn: Connection, orgs: Sequence[UUID]) -> tuple[int, int]:
    """How many are queued and running."""
    row = await conn.fetchrow(COUNT_LIVE, orgs)
    return (row["queued"], row["running"]) if row else (0, 0)


def run_of(row: asyncpg.Record) -> Run:
    """The run a row stands for; place and time beside it are the query's business."""
    return Run(
        org_id=row["org_id"],
        id=row["id"],
        schedule_id=row["schedule_id"],
        job=row["job"],
        scheduled_for_us=to_us(row["scheduled_for"]),
        state=row["state"],
        attempt=row["attempt"],
        lease_token=row["lease_token"],
        max_attempts=row["max_attempts"],
        retry_base_seconds=row["retry_base_seconds"],
        retry_cap_seconds=row["retry_cap_seconds"],
        start_margin_seconds=row["start_margin_seconds"],
        max_runtime_seconds=row["max_runtime_seconds"],
        is_waiting=row["is_waiting"],
        args=row["args"],
        priority=row["priority"],
        progress=row["progress"],
        result=row["result"],
        stands_for=row["stands_for"],
    )
