"""Organizations, people, and memberships."""

from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from chassis.clock import to_datetime, to_us
from chassis.postgres import Connection
from services.gateway.domain import Member, ZonePeriod
from services.gateway.store.times import moment, us

ADD_ORGANIZATION: Final = """
INSERT INTO organizations (org_id, name, created_at) VALUES ($1, $2, $3)
"""

GET_ORGANIZATION_NAME: Final = """
SELECT name FROM organizations WHERE org_id = $1
"""

# Whoever counts owners holds this, so that the last two can't leave at once.
LOCK_ORGANIZATION: Final = """
SELECT org_id FROM organizations WHERE org_id = $1 FOR UPDATE
"""

REMOVE_ORGANIZATION: Final = """
DELETE FROM organizations WHERE org_id = $1
"""

ADD_USER: Final = """
INSERT INTO users (user_id, email, password_hash, created_at) VALUES ($1, $2, $3, $4)
"""

FIND_USER: Final = """
SELECT user_id, email, password_hash FROM users WHERE lower(email) = lower($1)
"""

GET_USER: Final = """
SELECT user_id, email, password_hash FROM users WHERE user_id = $1
"""

REMOVE_USER: Final = """
DELETE FROM users WHERE user_id = $1
"""

ADD_MEMBER: Final = """
INSERT INTO memberships (org_id, user_id, name, role, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING org_id, user_id, name, role, status, revision, zone_from, zone_names, day_start_minutes,
          created_at, expires_at
"""

GET_MEMBER: Final = """
SELECT org_id, user_id, name, role, status, revision, zone_from, zone_names, day_start_minutes,
       created_at, expires_at
FROM memberships
WHERE org_id = $1 AND user_id = $2
"""

LOCK_MEMBER: Final = """
SELECT org_id, user_id, name, role, status, revision, zone_from, zone_names, day_start_minutes,
       created_at, expires_at
FROM memberships
WHERE org_id = $1 AND user_id = $2
FOR UPDATE
"""

SAVE_MEMBER: Final = """
UPDATE memberships
SET name = $3, role = $4, status = $5, zone_from = $6, zone_names = $7, day_start_minutes = $8,
    expires_at = $9, revision = revision + 1
WHERE org_id = $1 AND user_id = $2
RETURNING org_id, user_id, name, role, status, revision, zone_from, zone_names, day_start_minutes,
          created_at, expires_at
"""

LIST_MEMBERS: Final = """
SELECT m.org_id, m.user_id, m.name, m.role, m.status, m.revision, m.zone_from, m.zone_names,
       m.day_start_minutes, m.created_at, m.expires_at, u.email
FROM memberships m
JOIN users u ON u.user_id = m.user_id
WHERE m.org_id = $1 AND m.user_id > $2
ORDER BY m.user_id
LIMIT $3
"""

# Oldest first: someone with several organizations signs in to the first of them.
LIST_MEMBERSHIPS: Final = """
SELECT org_id, user_id, name, role, status, revision, zone_from, zone_names, day_start_minutes,
       created_at, expires_at
FROM memberships
WHERE user_id = $1
ORDER BY created_at, org_id
"""

REMOVE_MEMBER: Final = """
DELETE FROM memberships WHERE org_id = $1 AND user_id = $2
"""

COUNT_OTHER_OWNERS: Final = """
SELECT count(*) FROM memberships
WHERE org_id = $1 AND user_id <> $2 AND role = 'owner' AND status = 'active'
"""

COUNT_OTHER_MEMBERS: Final = """
SELECT count(*) FROM memberships WHERE org_id = $1 AND user_id <> $2
"""

IS_MEMBER_BY_EMAIL: Final = """
SELECT EXISTS (
  SELECT FROM users u JOIN memberships m ON m.user_id = u.user_id
  WHERE lower(u.email) = lower($2) AND m.org_id = $1
)
"""

# Guests whose time is over and about whom nobody has been told.
LOCK_EXPIRED_MEMBERS: Final = """
SELECT org_id, user_id, name, role, status, revision, zone_from, zone_names, day_start_minutes,
       created_at, expires_at
FROM memberships
WHERE expires_at <= $1 AND status = 'active'
ORDER BY org_id, user_id
LIMIT $2
FOR UPDATE SKIP LOCKED
"""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person across organizations."""

    user_id: UUID
    email: str
    password_hash: str


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A member with the address they sign in with."""

    member: Member
    email: str


async def add_organization(conn: Connection, org_id: UUID, name: str, *, at_us: int) -> None:
    """Keeps a new organization."""
    await conn.execute(ADD_ORGANIZATION, org_id, name, to_datetime(at_us))


async def organization_name(conn: Connection, org_id: UUID) -> str:
    """What the organization is called; it exists as long as it has members."""
    name: str = await conn.fetchval(GET_ORGANIZATION_NAME, org_id)
    return name


async def lock_organization(conn: Connection, org_id: UUID) -> None:
    """Until the transaction ends, nobody else changes who owns it."""
    await conn.execute(LOCK_ORGANIZATION, org_id)


async def remove_organization(conn: Connection, org_id: UUID) -> None:
    """Removes it with all that belongs to it, except its audit log."""
    await conn.execute(REMOVE_ORGANIZATION, org_id)


async def add_user(conn: Connection, user: User, *, at_us: int) -> None:
    """Keeps a new person; constraint `users_email_key` if the address is taken."""
    await conn.execute(ADD_USER, user.user_id, user.email, user.password_hash, to_datetime(at_us))


async def find_user(conn: Connection, email: str) -> User | None:
    """The person with this address, in whatever letters."""
    row = await conn.fetchrow(FIND_USER, email)
    return User(**row) if row else None


async def get_user(conn: Connection, user_id: UUID) -> User | None:
    """The person with this id."""
    row = await conn.fetchrow(GET_USER, user_id)
    return User(**row) if row else None


async def remove_user(conn: Connection, user_id: UUID) -> None:
    """Removes the person with every membership."""
    await conn.execute(REMOVE_USER, user_id)


async def add_member(conn: Connection, member: Member) -> Member:
    """Keeps a new membership; constraint `memberships_pkey` if there is one."""
    row = await conn.fetchrow(
        ADD_MEMBER,
        member.org_id,
        member.user_id,
        member.name,
        member.role,
        to_datetime(member.created_at_us),
        moment(member.expires_at_us),
    )
    return _member(row)


async def get_member(conn: Connection, org_id: UUID, user_id: UUID) -> Member | None:
    """A membership as it is."""
    row = await conn.fetchrow(GET_MEMBER, org_id, user_id)
    return _member(row) if row else None


async def lock_member(conn: Connection, org_id: UUID, user_id: UUID) -> Member | None:
    """A membership, which nobody else changes until the transaction ends."""
    row = await conn.fetchrow(LOCK_MEMBER, org_id, user_id)
    return _member(row) if row else None


async def save_member(conn: Connection, member: Member) -> Member:
    """Replaces a membership that was locked before; the answer has its new revision."""
    row = await conn.fetchrow(
        SAVE_MEMBER,
        member.org_id,
        member.user_id,
        member.name,
        member.role,
        "active" if member.is_active else "suspended",
        [to_datetime(period.from_us) for period in member.zones],
        [period.time_zone for period in member.zones],
        member.day_start_minutes,
        moment(member.expires_at_us),
    )
    return _member(row)


async def list_members(conn: Connection, org_id: UUID, *, after: UUID, limit: int) -> list[Person]:
    """Members by id, with ids above `after`."""
    rows = await conn.fetch(LIST_MEMBERS, org_id, after, limit)
    return [Person(member=_member(row), email=row["email"]) for row in rows]


async def memberships_of(conn: Connection, user_id: UUID) -> list[Member]:
    """Every membership of one person, oldest first."""
    return [_member(row) for row in await conn.fetch(LIST_MEMBERSHIPS, user_id)]


async def remove_member(conn: Connection, org_id: UUID, user_id: UUID) -> None:
    """Removes a membership with its keys, sign-ins and devices."""
    await conn.execute(REMOVE_MEMBER, org_id, user_id)


async def count_other_owners(conn: Connection, org_id: UUID, user_id: UUID) -> int:
    """Active owners besides one person."""
    count: int = await conn.fetchval(COUNT_OTHER_OWNERS, org_id, user_id)
    return count


async def count_other_members(conn: Connection, org_id: UUID, user_id: UUID) -> int:
    """Members besides one person, suspended ones included."""
    count: int = await conn.fetchval(COUNT_OTHER_MEMBERS, org_id, user_id)
    return count


async def is_member_by_email(conn: Connection, org_id: UUID, email: str) -> bool:
    """Whether somebody with this address belongs to the organization."""
    known: bool = await conn.fetchval(IS_MEMBER_BY_EMAIL, org_id, email)
    return known


async def lock_expired_members(conn: Connection, *, now_us: int, limit: int) -> list[Member]:
    """Active members whose time is over; those that others hold are left to them."""
    rows = await conn.fetch(LOCK_EXPIRED_MEMBERS, to_datetime(now_us), limit)
    return [_member(row) for row in rows]


def _member(row: asyncpg.Record | None) -> Member:
    if row is None:
        raise AssertionError("an insert or an update of a locked row returns one")
    periods = zip(row["zone_from"], row["zone_names"], strict=True)
    return Member(
        org_id=row["org_id"],
        user_id=row["user_id"],
        name=row["name"],
        role=row["role"],
        is_active=row["status"] == "active",
        revision=row["revision"],
        zones=tuple(ZonePeriod(to_us(start), name) for start, name in periods),
        day_start_minutes=row["day_start_minutes"],
        created_at_us=to_us(row["created_at"]),
        expires_at_us=us(row["expires_at"]),
    )
