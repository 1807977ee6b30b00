"""What authentication asks: is this credential good, and what may its holder do now."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from chassis.clock import to_datetime, to_us
from chassis.postgres import Connection
from services.gateway.domain import APIKey
from services.gateway.store.times import moment, us

# A prefix may be shared by chance; the hash decides.
FIND_KEYS: Final = """
SELECT k.org_id, k.user_id, k.key_id AS credential_id, k.secret_hash, k.scopes, false AS is_person,
       k.expires_at, k.revoked_at, m.role, m.status, m.expires_at AS membership_expires_at
FROM api_keys k
JOIN memberships m ON m.org_id = k.org_id AND m.user_id = k.user_id
WHERE k.prefix = $1
"""

FIND_CREDENTIAL: Final = """
SELECT c.org_id, c.user_id, c.credential_id, c.secret_hash, c.scopes, c.is_person,
       c.expires_at, c.revoked_at, m.role, m.status, m.expires_at AS membership_expires_at
FROM (
  SELECT s.org_id, s.user_id, s.family_id AS credential_id, ''::bytea AS secret_hash,
         '{}'::text[] AS scopes, true AS is_person, s.expires_at, s.revoked_at
  FROM sign_ins s
  WHERE s.org_id = $1 AND s.family_id = $2
  UNION ALL
  SELECT k.org_id, k.user_id, k.key_id, k.secret_hash, k.scopes, false, k.expires_at, k.revoked_at
  FROM api_keys k
  WHERE k.org_id = $1 AND k.key_id = $2
) c
JOIN memberships m ON m.org_id = c.org_id AND m.user_id = c.user_id
"""

ADD_KEY: Final = """
INSERT INTO api_keys (org_id, key_id, user_id, name, prefix, secret_hash, scopes, created_at,
                      expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

LIST_KEYS: Final = """
SELECT key_id, user_id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at
FROM api_keys
WHERE org_id = $1 AND user_id = $2 AND key_id < $3
ORDER BY key_id DESC
LIMIT $4
"""

COUNT_LIVE_KEYS: Final = """
SELECT count(*)
FROM api_keys
WHERE org_id = $1 AND user_id = $2 AND revoked_at IS NULL
"""

REVOKE_KEY: Final = """
UPDATE api_keys
SET revoked_at = $4
WHERE org_id = $1 AND key_id = $2 AND ($3::uuid IS NULL OR user_id = $3) AND revoked_at IS NULL
RETURNING user_id
"""

KNOWS_KEY: Final = """
SELECT EXISTS (
  SELECT FROM api_keys WHERE org_id = $1 AND key_id = $2 AND ($3::uuid IS NULL OR user_id = $3)
)
"""

# Locked in order of the id, so that two replicas never wait for one another in a circle.
TOUCH_KEYS: Final = """
WITH touched AS (
  SELECT k.org_id, k.key_id, t.at
  FROM api_keys k
  JOIN unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS t (org_id, key_id, at)
    ON t.org_id = k.org_id AND t.key_id = k.key_id
  ORDER BY k.org_id, k.key_id
  FOR UPDATE OF k
)
UPDATE api_keys k
SET last_used_at = greatest(k.last_used_at, touched.at)
FROM touched
WHERE k.org_id = touched.org_id AND k.key_id = touched.key_id
"""


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in or API key with the membership behind it; instants in µs, 0 for never."""

    org_id: UUID
    user_id: UUID
    credential_id: UUID
    secret_hash: bytes
    scopes: frozenset[str]
    is_person: bool
    is_revoked: bool
    expires_at_us: int
    role: str
    is_active: bool


async def find_by_prefix(conn: Connection, prefix: str) -> list[Credential]:
    """API keys that start like this, seldom more than one."""
    return [_credential(row) for row in await conn.fetch(FIND_KEYS, prefix)]


async def find(conn: Connection, org_id: UUID, credential_id: UUID) -> Credential | None:
    """A sign-in or API key by its id."""
    row = await conn.fetchrow(FIND_CREDENTIAL, org_id, credential_id)
    return _credential(row) if row else None


def _credential(row: asyncpg.Record) -> Credential:
    ends = [us(at) for at in (row["expires_at"], row["membership_expires_at"]) if at]
    return Credential(
        org_id=row["org_id"],
        user_id=row["user_id"],
        credential_id=row["credential_id"],
        secret_hash=row["secret_hash"],
        scopes=frozenset(row["scopes"]),
        is_person=row["is_person"],
        is_revoked=row["revoked_at"] is not None,
        expires_at_us=min(ends, default=0),
        role=row["role"],
        is_active=row["status"] == "active",
    )


async def add_key(conn: Connection, org_id: UUID, key: APIKey, *, secret_hash: bytes) -> None:
    """Keeps a new key."""
    await conn.execute(
        ADD_KEY,
        org_id,
        key.key_id,
        key.user_id,
        key.name,
        key.prefix,
        secret_hash,
        list(key.scopes),
        to_datetime(key.created_at_us),
        moment(key.expires_at_us),
    )


async def list_keys(
    conn: Connection, org_id: UUID, user_id: UUID, *, before: UUID, limit: int
) -> list[APIKey]:
    """A person's keys, revoked ones included, newest first, with ids below `before`."""
    rows = await conn.fetch(LIST_KEYS, org_id, user_id, before, limit)
    return [
        APIKey(
            key_id=row["key_id"],
            user_id=row["user_id"],
            name=row["name"],
            prefix=row["prefix"],
            scopes=tuple(row["scopes"]),
            created_at_us=to_us(row["created_at"]),
            expires_at_us=us(row["expires_at"]),
            revoked_at_us=us(row["revoked_at"]),
            last_used_us=us(row["last_used_at"]),
        )
        for row in rows
    ]


async def count_live_keys(conn: Connection, org_id: UUID, user_id: UUID) -> int:
    """Keys of a person that are not revoked."""
    count: int = await conn.fetchval(COUNT_LIVE_KEYS, org_id, user_id)
    return count


async def revoke_key(
    conn: Connection, org_id: UUID, key_id: UUID, *, owner: UUID | None, at_us: int
) -> UUID | None:
    """Whose key it was; None when it was revoked before or is not `owner`'s (None: anybody's)."""
    found: UUID | None = await conn.fetchval(REVOKE_KEY, org_id, key_id, owner, to_datetime(at_us))
    return found


async def knows_key(conn: Connection, org_id: UUID, key_id: UUID, *, owner: UUID | None) -> bool:
    """Whether there is such a key, revoked or not."""
    known: bool = await conn.fetchval(KNOWS_KEY, org_id, key_id, owner)
    return known


async def touch_keys(conn: Connection, uses: Sequence[tuple[UUID, UUID, int]]) -> None:
    """Notes when keys were last used: (organization, key, µs)."""
    orgs, keys, times = zip(*uses, strict=True)
    await conn.execute(TOUCH_KEYS, list(orgs), list(keys), [to_datetime(at) for at in times])
