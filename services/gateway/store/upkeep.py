"""What is past keeping, removed in bounded bites so that nobody waits long for a lock."""

from typing import Final
from uuid import UUID

from chassis.clock import to_datetime
from chassis.postgres import Connection

REMOVE_SIGN_INS: Final = """
DELETE FROM sign_ins
WHERE (org_id, family_id) IN (
  SELECT org_id, family_id FROM sign_ins
  WHERE expires_at < $1 OR revoked_at < $1
  LIMIT $2
)
"""

# Used tokens are kept as long as they would have lived, to recognise their reuse.
REMOVE_TOKENS: Final = """
DELETE FROM refresh_tokens
WHERE (org_id, family_id, token_hash) IN (
  SELECT org_id, family_id, token_hash FROM refresh_tokens WHERE used_at < $1 LIMIT $2
)
"""

REMOVE_INVITATIONS: Final = """
DELETE FROM invitations
WHERE (org_id, invitation_id) IN (
  SELECT org_id, invitation_id FROM invitations WHERE expires_at < $1 LIMIT $2
)
"""

REMOVE_ANSWERS: Final = """
DELETE FROM idempotency_keys
WHERE (org_id, user_id, credential_id, key_hash) IN (
  SELECT org_id, user_id, credential_id, key_hash FROM idempotency_keys
  WHERE created_at < $1
  LIMIT $2
)
"""

FORGET_ANSWERS_OF: Final = """
DELETE FROM idempotency_keys WHERE org_id = $1 AND user_id = $2
"""

# What is removed, by the name people see in the result of the job.
REMOVALS: Final = {
    "sign_ins": REMOVE_SIGN_INS,
    "refresh_tokens": REMOVE_TOKENS,
    "invitations": REMOVE_INVITATIONS,
    "idempotency_keys": REMOVE_ANSWERS,
}


async def remove(conn: Connection, what: str, *, before_us: int, limit: int) -> int:
    """Removes at most `limit` rows of a kind in REMOVALS that ended before; how many."""
    status = await conn.execute(REMOVALS[what], to_datetime(before_us), limit)
    return int(status.rpartition(" ")[2])


async def forget_answers_of(conn: Connection, org_id: UUID, user_id: UUID) -> None:
    """Removes the answers given to a person who is erased."""
    await conn.execute(FORGET_ANSWERS_OF, org_id, user_id)
