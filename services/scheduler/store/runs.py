"""Runs on their way: made by a fire or by hand, dispatched, settled by reports."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from chassis.clock import to_datetime, to_us
from chassis.postgres import Connection
from services.scheduler.domain.runs import Place, Run
from services.scheduler.store.history import run_of

# A moment that was fired before gives no second run, whoever fired it (promise P5).
FIRE: Final = """
WITH wanted AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[],
                       $6::int[], $7::text[])
    AS v (org_id, schedule_id, id, scheduled_for, state, stands_for, shelf)
), fired AS (
  INSERT INTO fires (org_id, schedule_id, scheduled_for, revision, run_id)
  SELECT s.org_id, s.id, w.scheduled_for, s.revision, w.id
  FROM wanted w JOIN schedules s ON s.org_id = w.org_id AND s.id = w.schedule_id
  ON CONFLICT ON CONSTRAINT fires_pkey DO NOTHING
  RETURNING run_id
)
INSERT INTO runs
  (org_id, id, shelf, shelved_on, schedule_id, revision, scheduled_for, stands_for, job, args,
   priority, state, attempt, max_attempts, retry_base_seconds, retry_cap_seconds,
   start_margin_seconds, max_runtime_seconds, lease_token, wake_at, finished_at)
SELECT w.org_id, w.id, w.shelf,
       CASE w.shelf WHEN 'live' THEN 'epoch'::date ELSE (now() AT TIME ZONE 'UTC')::date END,
       s.id, s.revision, w.scheduled_for, w.stands_for, s.job, s.args, s.priority, w.state,
       CASE w.shelf WHEN 'live' THEN 1 ELSE 0 END, s.max_attempts, s.retry_base_seconds,
       s.retry_cap_seconds, s.start_margin_seconds, s.max_runtime_seconds,
       CASE w.shelf WHEN 'live' THEN nextval('lease_tokens') ELSE 0 END,
       CASE w.shelf WHEN 'live' THEN
         now() + make_interval(secs => s.start_margin_seconds + s.max_runtime_seconds + $8) END,
       CASE w.shelf WHEN 'live' THEN NULL ELSE now() END
FROM wanted w
JOIN fired f ON f.run_id = w.id
JOIN schedules s ON s.org_id = w.org_id AND s.id = w.schedule_id
RETURNING id, lease_token
"""

TRIGGER: Final = """
INSERT INTO runs
  (org_id, id, schedule_id, revision, scheduled_for, job, args, priority, state, attempt,
   max_attempts, retry_base_seconds, retry_cap_seconds, start_margin_seconds, max_runtime_seconds,
   lease_token, wake_at, triggered_by)
SELECT s.org_id, $3, s.id, s.revision, now(), s.job, $4, s.priority, 'queued', 1, s.max_attempts,
       s.retry_base_seconds, s.retry_cap_seconds, s.start_margin_seconds, s.max_runtime_seconds,
       nextval('lease_tokens'),
       now() + make_interval(secs => s.start_margin_seconds + s.max_runtime_seconds + $6), $5
FROM schedules s
WHERE s.org_id = $1 AND s.id = $2
RETURNING lease_token, now() AS now
"""

HAS_LIVE_RUN: Final = """
SELECT EXISTS (SELECT FROM runs WHERE shelf = 'live' AND org_id = $1 AND schedule_id = $2)
"""

# Live runs are where almost every report belongs; the other shelves are asked only for the rest.
LOCK_LIVE: Final = """
SELECT org_id, id, schedule_id, job, scheduled_for, state, attempt, lease_token, max_attempts,
       retry_base_seconds, retry_cap_seconds, start_margin_seconds, max_runtime_seconds,
       is_waiting, args, priority, progress, result, stands_for, shelf, shelved_on
FROM runs
WHERE shelf = 'live' AND org_id = ANY($1::uuid[]) AND id = ANY($2::uuid[])
ORDER BY id
FOR UPDATE
"""

LOCK_ENDED: Final = """
SELECT org_id, id, schedule_id, job, scheduled_for, state, attempt, lease_token, max_attempts,
       retry_base_seconds, retry_cap_seconds, start_margin_seconds, max_runtime_seconds,
       is_waiting, args, priority, progress, result, stands_for, shelf, shelved_on
FROM runs
WHERE shelf <> 'live' AND org_id = ANY($1::uuid[]) AND id = ANY($2::uuid[])
ORDER BY id
FOR UPDATE
"""

CLAIM_WAKING: Final = """
SELECT org_id, id, schedule_id, job, scheduled_for, state, attempt, lease_token, max_attempts,
       retry_base_seconds, retry_cap_seconds, start_margin_seconds, max_runtime_seconds,
       is_waiting, args, priority, progress, result, stands_for, shelf, shelved_on, now() AS now
FROM runs
WHERE shelf = 'live' AND wake_at <= now() AND wake_at IS NOT NULL
ORDER BY wake_at
LIMIT $1
FOR UPDATE SKIP LOCKED
"""

SECONDS_UNTIL_WAKE: Final = """
SELECT extract(epoch FROM min(wake_at) - clock_timestamp())::float8
FROM runs WHERE shelf = 'live' AND wake_at IS NOT NULL
"""

DISPATCH_AGAIN: Final = """
UPDATE runs AS r
SET state = 'queued', attempt = r.attempt + 1, lease_token = nextval('lease_tokens'),
    is_waiting = false, progress = 0, result = '',
    wake_at = now() + make_interval(secs => r.start_margin_seconds + r.max_runtime_seconds + $3)
FROM unnest($1::uuid[], $2::uuid[]) AS v (org_id, id)
WHERE r.shelf = 'live' AND r.org_id = v.org_id AND r.id = v.id
RETURNING r.id, r.lease_token
"""

SETTLE: Final = """
UPDATE runs AS r
SET state = v.state, shelf = v.shelf, is_waiting = v.is_waiting, progress = v.progress,
    result = v.result,
    shelved_on = CASE WHEN v.shelf = 'live' THEN r.shelved_on
                      ELSE (now() AT TIME ZONE 'UTC')::date END,
    wake_at = CASE WHEN v.shelf <> 'live' THEN NULL
                   WHEN v.retry_seconds IS NULL THEN r.wake_at
                   ELSE now() + make_interval(secs => v.retry_seconds) END,
    finished_at = CASE WHEN v.shelf <> 'live' THEN coalesce(r.finished_at, now()) END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::date[], $5::text[], $6::text[], $7::bool[],
            $8::float8[], $9::text[], $10::float8[])
  AS v (org_id, id, old_shelf, old_shelved_on, state, shelf, is_waiting, progress, result,
        retry_seconds)
WHERE r.org_id = v.org_id AND r.id = v.id AND r.shelf = v.old_shelf
  AND r.shelved_on = v.old_shelved_on
RETURNING r.id, r.shelved_on
"""

FORGET_PERSON: Final = """
UPDATE runs SET triggered_by = NULL WHERE org_id = $1 AND triggered_by = $2
"""


class Held(NamedTuple):
    """A run whose row is locked, and where the row is."""

    run: Run
    place: Place


class Settlement(NamedTuple):
    """What becomes of a held run; `retry_seconds` None leaves its alarm where it is."""

    held: Held
    run: Run
    retry_seconds: float | None


async def fire(conn: Connection, runs: Sequence[Run], grace_seconds: int) -> dict[UUID, int]:
    """Makes runs of schedules, of one transaction's claim; those made, with their lease tokens.

    Job, arguments and policy are the schedule's. Live runs are leased for their start margin, their
    longest runtime and `grace_seconds` for the report to arrive.
    """
    rows = await conn.fetch(
        FIRE,
        [run.org_id for run in runs],
        [run.schedule_id for run in runs],
        [run.id for run in runs],
        [to_datetime(run.scheduled_for_us) for run in runs],
        [run.state for run in runs],
        [run.stands_for for run in runs],
        [run.shelf for run in runs],
        grace_seconds,
    )
    return {row["id"]: row["lease_token"] for row in rows}


async def trigger(
    conn: Connection,
    *,
    schedule: tuple[UUID, UUID],
    run_id: UUID,
    args: str,
    by: UUID,
    grace_seconds: int,
) -> tuple[int, int]:
    """Makes a run beside the plan; its lease token and PostgreSQL's time."""
    row = await conn.fetchrow(TRIGGER, *schedule, run_id, args, by, grace_seconds)
    assert row is not None  # noqa: S101  # the schedule is locked by this transaction
    return row["lease_token"], to_us(row["now"])


async def has_live_run(conn: Connection, org_id: UUID, schedule_id: UUID) -> bool:
    """Whether a run of the schedule is queued or running."""
    found: bool = await conn.fetchval(HAS_LIVE_RUN, org_id, schedule_id)
    return found


async def hold(conn: Connection, keys: Sequence[tuple[UUID, UUID]]) -> dict[UUID, Held]:
    """Locks runs by (organization, id); those that exist, by id."""
    held: dict[UUID, Held] = {}
    wanted = set(keys)
    for query in (LOCK_LIVE, LOCK_ENDED):
        missing = sorted(key for key in wanted if key[1] not in held)
        if missing:
            rows = await conn.fetch(query, *map(list, zip(*missing, strict=True)))
            held.update({row["id"]: _held(row) for row in rows})
    return {id_: one for id_, one in held.items() if (one.run.org_id, id_) in wanted}


async def claim_waking(conn: Connection, limit: int) -> tuple[list[Held], int]:
    """Live runs whose alarm is past, and PostgreSQL's time (0 when there are none)."""
    rows = await conn.fetch(CLAIM_WAKING, limit)
    return [_held(row) for row in rows], to_us(rows[0]["now"]) if rows else 0


async def seconds_until_wake(conn: Connection) -> float | None:
    """Seconds to the next alarm, negative when overdue; None when no run is live."""
    seconds: float | None = await conn.fetchval(SECONDS_UNTIL_WAKE)
    return seconds


async def dispatch_again(
    conn: Connection, runs: Sequence[Run], grace_seconds: int
) -> dict[UUID, int]:
    """Leases the next attempt of each; the lease tokens by run."""
    rows = await conn.fetch(
        DISPATCH_AGAIN, [run.org_id for run in runs], [run.id for run in runs], grace_seconds
    )
    return {row["id"]: row["lease_token"] for row in rows}


async def settle(conn: Connection, settlements: Sequence[Settlement]) -> dict[UUID, Place]:
    """Writes what became of held runs, moving ended ones to their shelf; the places by run."""
    rows = await conn.fetch(
        SETTLE,
        [one.run.org_id for one in settlements],
        [one.run.id for one in settlements],
        [one.held.place.shelf for one in settlements],
        [one.held.place.shelved_on for one in settlements],
        [one.run.state for one in settlements],
        [one.run.shelf for one in settlements],
        [one.run.is_waiting for one in settlements],
        [one.run.progress for one in settlements],
        [one.run.result for one in settlements],
        [one.retry_seconds for one in settlements],
    )
    shelves = {one.run.id: one.run.shelf for one in settlements}
    return {row["id"]: Place(shelves[row["id"]], row["shelved_on"]) for row in rows}


async def forget_person(conn: Connection, org_id: UUID, user_id: UUID) -> None:
    """Removes who triggered, where it was them."""
    await conn.execute(FORGET_PERSON, org_id, user_id)


def _held(row: asyncpg.Record) -> Held:
    return Held(run_of(row), Place(row["shelf"], row["shelved_on"]))
