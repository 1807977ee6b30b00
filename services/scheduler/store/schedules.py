"""Plans: declared, claimed when due, paused and listed."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from chassis.clock import to_datetime, to_us
from chassis.postgres import Connection
from services.scheduler.domain.plans import Plan, Policy, Schedule

# A later declaration than the stored one makes a new revision; the pause is the operator's.
DECLARE_SCHEDULE: Final = """
INSERT INTO schedules AS s
  (org_id, id, name, job, kind, expression, time_zone, args, misfire, misfire_window_seconds,
   misfire_max, overlap, jitter_seconds, priority, start_margin_seconds, max_runtime_seconds,
   max_attempts, retry_base_seconds, retry_cap_seconds, declaration, next_scheduled_for,
   next_fire_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
        $21, $22)
ON CONFLICT ON CONSTRAINT schedules_pkey DO UPDATE
SET name = excluded.name, job = excluded.job, kind = excluded.kind,
    expression = excluded.expression, time_zone = excluded.time_zone, args = excluded.args,
    misfire = excluded.misfire, misfire_window_seconds = excluded.misfire_window_seconds,
    misfire_max = excluded.misfire_max, overlap = excluded.overlap,
    jitter_seconds = excluded.jitter_seconds, priority = excluded.priority,
    start_margin_seconds = excluded.start_margin_seconds,
    max_runtime_seconds = excluded.max_runtime_seconds, max_attempts = excluded.max_attempts,
    retry_base_seconds = excluded.retry_base_seconds,
    retry_cap_seconds = excluded.retry_cap_seconds, declaration = excluded.declaration,
    next_scheduled_for = excluded.next_scheduled_for, next_fire_at = excluded.next_fire_at,
    revision = s.revision + 1, updated_at = now()
WHERE s.declaration <> excluded.declaration
"""

# What the code no longer declares keeps its history and never fires again.
RETIRE_SCHEDULES: Final = """
UPDATE schedules
SET next_scheduled_for = NULL, next_fire_at = NULL, declaration = 'retired',
    revision = revision + 1, updated_at = now()
WHERE org_id = $1 AND declaration NOT IN ('', 'retired') AND id <> ALL($2::uuid[])
"""

CLAIM_DUE: Final = """
SELECT s.org_id, s.id, s.name, s.job, s.kind, s.expression, s.time_zone, s.args, s.misfire,
       s.misfire_window_seconds, s.misfire_max, s.overlap, s.jitter_seconds, s.priority,
       s.start_margin_seconds, s.max_runtime_seconds, s.max_attempts, s.retry_base_seconds,
       s.retry_cap_seconds, s.revision, s.next_scheduled_for, s.next_fire_at, s.paused_at,
       s.paused_by, s.pause_reason, s.missed_count, s.skipped_count, now() AS now,
       s.overlap = 'skip' AND EXISTS (
         SELECT FROM runs r
         WHERE r.shelf = 'live' AND r.org_id = s.org_id AND r.schedule_id = s.id) AS has_live_run
FROM schedules s
WHERE s.next_fire_at <= now() AND s.next_fire_at IS NOT NULL AND s.paused_at IS NULL
ORDER BY s.next_fire_at
LIMIT $1
FOR UPDATE OF s SKIP LOCKED
"""

ADVANCE_SCHEDULES: Final = """
UPDATE schedules AS s
SET next_scheduled_for = v.next_scheduled_for, next_fire_at = v.next_fire_at,
    missed_count = s.missed_count + v.missed, skipped_count = s.skipped_count + v.skipped
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::bigint[],
            $6::bigint[])
  AS v (org_id, id, next_scheduled_for, next_fire_at, missed, skipped)
WHERE s.org_id = v.org_id AND s.id = v.id
"""

SECONDS_UNTIL_DUE: Final = """
SELECT extract(epoch FROM min(next_fire_at) - clock_timestamp())::float8
FROM schedules WHERE next_fire_at IS NOT NULL AND paused_at IS NULL
"""

GET_SCHEDULE: Final = """
SELECT org_id, id, name, job, kind, expression, time_zone, args, misfire, misfire_window_seconds,
       misfire_max, overlap, jitter_seconds, priority, start_margin_seconds, max_runtime_seconds,
       max_attempts, retry_base_seconds, retry_cap_seconds, revision, next_scheduled_for,
       next_fire_at, paused_at, paused_by, pause_reason, missed_count, skipped_count, now() AS now
FROM schedules
WHERE org_id = ANY($1::uuid[]) AND (id::text = $2 OR name = $2)
ORDER BY array_position($1::uuid[], org_id)
LIMIT 1
"""

LOCK_SCHEDULE: Final = """
SELECT now() AS now FROM schedules WHERE org_id = $1 AND id = $2 FOR UPDATE
"""

LIST_SCHEDULES: Final = """
SELECT org_id, id, name, job, kind, expression, time_zone, args, misfire, misfire_window_seconds,
       misfire_max, overlap, jitter_seconds, priority, start_margin_seconds, max_runtime_seconds,
       max_attempts, retry_base_seconds, retry_cap_seconds, revision, next_scheduled_for,
       next_fire_at, paused_at, paused_by, pause_reason, missed_count, skipped_count, now() AS now
FROM schedules
WHERE org_id = ANY($1::uuid[]) AND (name, org_id) > ($2, $3)
ORDER BY name, org_id
LIMIT $4
"""

LIST_NEXT_FIRES: Final = """
SELECT org_id, id, name, job, kind, expression, time_zone, args, misfire, misfire_window_seconds,
       misfire_max, overlap, jitter_seconds, priority, start_margin_seconds, max_runtime_seconds,
       max_attempts, retry_base_seconds, retry_cap_seconds, revision, next_scheduled_for,
       next_fire_at, paused_at, paused_by, pause_reason, missed_count, skipped_count, now() AS now
FROM schedules
WHERE org_id = ANY($1::uuid[]) AND next_fire_at IS NOT NULL AND paused_at IS NULL
ORDER BY next_fire_at
LIMIT $2
"""

PAUSE_SCHEDULE: Final = """
UPDATE schedules
SET paused_at = coalesce(paused_at, now()), paused_by = $3, pause_reason = $4, updated_at = now()
WHERE org_id = $1 AND id = $2
"""

RESUME_SCHEDULE: Final = """
UPDATE schedules
SET paused_at = NULL, paused_by = NULL, pause_reason = '', updated_at = now(),
    next_scheduled_for = CASE WHEN declaration <> 'retired' THEN $3::timestamptz END,
    next_fire_at = CASE WHEN declaration <> 'retired' THEN $4::timestamptz END
WHERE org_id = $1 AND id = $2
"""

FORGET_PERSON: Final = """
UPDATE schedules SET paused_by = NULL WHERE org_id = $1 AND paused_by = $2
"""


class Claimed(NamedTuple):
    """A due schedule in our hands until the transaction ends, and PostgreSQL's time."""

    schedule: Schedule
    now_us: int
    has_live_run: bool


class Advance(NamedTuple):
    """Where a schedule stands after its due moments were dealt with."""

    org_id: UUID
    id: UUID
    scheduled_for_us: int | None
    fire_at_us: int | None
    missed: int
    skipped: int


async def declare(conn: Connection, schedule: Schedule, declaration: str) -> bool:
    """Stores what the code declares; whether that changed anything."""
    policy = schedule.policy  # its fields are in the order of the columns
    status = await conn.execute(
        DECLARE_SCHEDULE,
        *(schedule.org_id, schedule.id, schedule.name, schedule.job, schedule.plan.kind),
        *(schedule.plan.expression, schedule.plan.time_zone, schedule.args),
        *(getattr(policy, name) for name in policy.__struct_fields__),
        declaration,
        _moment(schedule.scheduled_for_us),
        _moment(schedule.fire_at_us),
    )
    return status.endswith(" 1")


async def retire(conn: Connection, org_id: UUID, declared: Sequence[UUID]) -> None:
    """Ends the declared schedules of an organization other than these."""
    await conn.execute(RETIRE_SCHEDULES, org_id, declared)


async def claim_due(conn: Connection, limit: int) -> list[Claimed]:
    """Due schedules, the most overdue first; nobody else sees them until the transaction ends."""
    return [
        Claimed(_schedule(row), to_us(row["now"]), row["has_live_run"])
        for row in await conn.fetch(CLAIM_DUE, limit)
    ]


async def advance(conn: Connection, rows: Sequence[Advance]) -> None:
    """Moves claimed schedules to their next moment and counts what did not run."""
    await conn.execute(
        ADVANCE_SCHEDULES,
        [row.org_id for row in rows],
        [row.id for row in rows],
        [_moment(row.scheduled_for_us) for row in rows],
        [_moment(row.fire_at_us) for row in rows],
        [row.missed for row in rows],
        [row.skipped for row in rows],
    )


async def seconds_until_due(conn: Connection) -> float | None:
    """Seconds to the next fire, negative when overdue; None when nothing is planned."""
    seconds: float | None = await conn.fetchval(SECONDS_UNTIL_DUE)
    return seconds


async def get(
    conn: Connection, orgs: Sequence[UUID], id_or_name: str
) -> tuple[Schedule, int] | None:
    """The schedule and PostgreSQL's time; the first organization that has it wins."""
    row = await conn.fetchrow(GET_SCHEDULE, orgs, id_or_name)
    return (_schedule(row), to_us(row["now"])) if row else None


async def lock(conn: Connection, schedule: Schedule) -> None:
    """Keeps the schedule from firing until the transaction ends."""
    await conn.execute(LOCK_SCHEDULE, schedule.org_id, schedule.id)


async def list_schedules(
    conn: Connection, orgs: Sequence[UUID], after: tuple[str, UUID], limit: int
) -> list[Schedule]:
    """By name, then organization, from after that place."""
    return [_schedule(row) for row in await conn.fetch(LIST_SCHEDULES, orgs, *after, limit)]


async def list_next_fires(conn: Connection, orgs: Sequence[UUID], limit: int) -> list[Schedule]:
    """Those that fire next, soonest first."""
    return [_schedule(row) for row in await conn.fetch(LIST_NEXT_FIRES, orgs, limit)]


async def pause(conn: Connection, schedule: Schedule, by: UUID | None, reason: str) -> None:
    """Stops firing; `by` None is the scheduler itself."""
    await conn.execute(PAUSE_SCHEDULE, schedule.org_id, schedule.id, by, reason)


async def resume(
    conn: Connection, schedule: Schedule, scheduled_for_us: int | None, fire_at_us: int | None
) -> None:
    """Fires again from that moment on, unless the code retired it meanwhile."""
    await conn.execute(
        RESUME_SCHEDULE,
        schedule.org_id,
        schedule.id,
        _moment(scheduled_for_us),
        _moment(fire_at_us),
    )


async def forget_person(conn: Connection, org_id: UUID, user_id: UUID) -> None:
    """Removes who paused, where it was them."""
    await conn.execute(FORGET_PERSON, org_id, user_id)


def _moment(us: int | None) -> object:
    return None if us is None else to_datetime(us)


def _schedule(row: asyncpg.Record) -> Schedule:
    return Schedule(
        org_id=row["org_id"],
        id=row["id"],
        name=row["name"],
        job=row["job"],
        plan=Plan(row["kind"], row["expression"], row["time_zone"]),
        policy=Policy(**{name: row[name] for name in Policy.__struct_fields__}),
        args=row["args"],
        revision=row["revision"],
        scheduled_for_us=to_us(row["next_scheduled_for"]) if row["next_scheduled_for"] else None,
        fire_at_us=to_us(row["next_fire_at"]) if row["next_fire_at"] else None,
        is_paused=row["paused_at"] is not None,
        paused_by=row["paused_by"],
        pause_reason=row["pause_reason"],
        missed_count=row["missed_count"],
        skipped_count=row["skipped_count"],
    )
