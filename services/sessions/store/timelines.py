"""One row per person: the lock under which derived rows change, and their version."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from chassis.postgres import Connection

Person = tuple[UUID, UUID]
"""Organization and person."""

# Sorted, so that two replicas that hold the same people never wait for one another in a circle.
LOCK_PEOPLE: Final = """
INSERT INTO timelines AS t (org_id, user_id, version)
SELECT p.org_id, p.user_id, 1
FROM unnest($1::uuid[], $2::uuid[]) AS p (org_id, user_id)
ORDER BY p.org_id, p.user_id
ON CONFLICT ON CONSTRAINT timelines_pkey
DO UPDATE SET version = t.version + 1, changed_at = now()
RETURNING org_id, user_id, version
"""

HOLD_PERSON: Final = """
SELECT version FROM timelines WHERE org_id = $1 AND user_id = $2 FOR UPDATE
"""

LIST_CHANGED: Final = """
SELECT org_id, user_id
FROM timelines
WHERE changed_at >= now() - make_interval(hours => $1)
  AND (org_id, user_id) > ($2, $3)
ORDER BY org_id, user_id
LIMIT $4
"""

FORGET_PERSON: Final = (
    "DELETE FROM activity WHERE org_id = $1 AND user_id = $2",
    "DELETE FROM blocks WHERE org_id = $1 AND user_id = $2",
    "DELETE FROM sessions WHERE org_id = $1 AND user_id = $2",
    "DELETE FROM days WHERE org_id = $1 AND user_id = $2",
    "DELETE FROM members WHERE org_id = $1 AND user_id = $2",
    "DELETE FROM timelines WHERE org_id = $1 AND user_id = $2",
)


async def lock(conn: Connection, people: Sequence[Person]) -> dict[Person, int]:
    """Holds these people until the transaction ends; their new versions."""
    orgs, users = [org for org, _ in people], [user for _, user in people]
    rows = await conn.fetch(LOCK_PEOPLE, orgs, users)
    return {(row["org_id"], row["user_id"]): row["version"] for row in rows}


async def hold(conn: Connection, person: Person) -> int | None:
    """Holds a person without a new version; None when the person has no time."""
    version: int | None = await conn.fetchval(HOLD_PERSON, *person)
    return version


async def list_changed(conn: Connection, *, hours: int, after: Person, limit: int) -> list[Person]:
    """People whose time changed within the last `hours`, in order, after a person."""
    rows = await conn.fetch(LIST_CHANGED, hours, *after, limit)
    return [(row["org_id"], row["user_id"]) for row in rows]


async def forget(conn: Connection, person: Person) -> None:
    """Removes everything about a person."""
    for statement in FORGET_PERSON:
        await conn.execute(statement, *person)
