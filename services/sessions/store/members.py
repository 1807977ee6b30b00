"""What is known about people: zone history, start of day, whether they exist."""

from collections.abc import Iterable
from typing import Final

import msgspec

from chassis.postgres import Connection
from protos.accounts.v1.announcements_pb2 import MemberChanged
from services.sessions.domain import ZoneChange, ZoneHistory
from services.sessions.store.timelines import Person

UPSERT_MEMBER: Final = """
INSERT INTO members AS m
  (org_id, user_id, revision, name, role, is_active, zones, day_start_minutes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT ON CONSTRAINT members_pkey DO UPDATE
SET revision = excluded.revision, name = excluded.name, role = excluded.role,
    is_active = excluded.is_active, zones = excluded.zones,
    day_start_minutes = excluded.day_start_minutes
WHERE excluded.revision > m.revision
RETURNING old.zones IS DISTINCT FROM new.zones
       OR old.day_start_minutes IS DISTINCT FROM new.day_start_minutes AS is_day_different
"""

GET_ZONES: Final = """
SELECT m.org_id, m.user_id, m.zones, m.day_start_minutes
FROM unnest($1::uuid[], $2::uuid[]) AS p (org_id, user_id)
JOIN members AS m ON m.org_id = p.org_id AND m.user_id = p.user_id
"""

IS_MEMBER: Final = """
SELECT EXISTS (SELECT FROM members WHERE org_id = $1 AND user_id = $2)
"""

UTC_ALWAYS: Final = ZoneHistory.of("UTC")
"""For people whose announcement has not arrived yet; their days are redone when it does."""

_ZONES = msgspec.json.Decoder(tuple[ZoneChange, ...])


async def upsert(conn: Connection, person: Person, member: MemberChanged) -> bool:
    """Keeps the newest revision; whether the person's days are cut differently now."""
    changes = _changes((zone.from_us, zone.time_zone) for zone in member.zones)
    row = await conn.fetchrow(
        UPSERT_MEMBER,
        *person,
        member.revision,
        member.name,
        member.role,
        member.is_active,
        msgspec.json.encode(changes).decode(),
        member.day_start_minutes,
    )
    return bool(row and row["is_day_different"])


def _changes(zones: Iterable[tuple[int, str]]) -> tuple[ZoneChange, ...]:
    changes = tuple(
        ZoneChange(from_us if number else None, zone)
        for number, (from_us, zone) in enumerate(zones)
    )
    return changes or UTC_ALWAYS.changes


async def zones_of(conn: Connection, people: Iterable[Person]) -> dict[Person, ZoneHistory]:
    """Where each person lived; UTC while unknown."""
    zones = dict.fromkeys(people, UTC_ALWAYS)
    orgs, users = [org for org, _ in zones], [user for _, user in zones]
    for row in await conn.fetch(GET_ZONES, orgs, users):
        history = ZoneHistory(_ZONES.decode(row["zones"]), row["day_start_minutes"])
        zones[row["org_id"], row["user_id"]] = history
    return zones


async def is_member(conn: Connection, person: Person) -> bool:
    """Whether the organization has this person."""
    known: bool = await conn.fetchval(IS_MEMBER, *person)
    return known
