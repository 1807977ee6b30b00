"""Sign-ins and the refresh tokens that follow from them."""

from typing import Final
from uuid import UUID

import msgspec

from chassis.clock import to_datetime, to_us
from chassis.postgres import Connection

ADD_SIGN_IN: Final = """
INSERT INTO sign_ins (org_id, family_id, user_id, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5)
"""

HAND_OUT: Final = """
INSERT INTO refresh_tokens (org_id, family_id, token_hash, issued_at) VALUES ($1, $2, $3, $4)
"""

# The family is locked, not the token: of two who use tokens of one family, one waits.
LOCK_SIGN_IN: Final = """
SELECT user_id, expires_at, revoked_at IS NOT NULL AS is_revoked
FROM sign_ins
WHERE org_id = $1 AND family_id = $2
FOR UPDATE
"""

FIND_HANDED_OUT: Final = """
SELECT used_at IS NOT NULL AS is_used
FROM refresh_tokens
WHERE org_id = $1 AND family_id = $2 AND token_hash = $3
"""

MARK_USED: Final = """
UPDATE refresh_tokens SET used_at = $4 WHERE org_id = $1 AND family_id = $2 AND token_hash = $3
"""

EXTEND_SIGN_IN: Final = """
UPDATE sign_ins SET expires_at = $3 WHERE org_id = $1 AND family_id = $2
"""

REVOKE_SIGN_IN: Final = """
UPDATE sign_ins SET revoked_at = $3
WHERE org_id = $1 AND family_id = $2 AND revoked_at IS NULL
"""

REVOKE_SIGN_INS: Final = """
UPDATE sign_ins SET revoked_at = $3
WHERE org_id = $1 AND user_id = $2 AND revoked_at IS NULL
"""


class SignInState(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in and one of its tokens; `is_used` is None when the token is not one of its own."""

    user_id: UUID
    expires_at_us: int
    is_revoked: bool
    is_used: bool | None


async def add(
    conn: Connection, org_id: UUID, family_id: UUID, user_id: UUID, *, now_us: int, ends_us: int
) -> None:
    """Keeps a new sign-in."""
    await conn.execute(
        ADD_SIGN_IN, org_id, family_id, user_id, to_datetime(now_us), to_datetime(ends_us)
    )


async def add_token(
    conn: Connection, org_id: UUID, family_id: UUID, token_hash: bytes, *, now_us: int
) -> None:
    """Keeps a token that is handed out."""
    await conn.execute(HAND_OUT, org_id, family_id, token_hash, to_datetime(now_us))


async def lock(
    conn: Connection, org_id: UUID, family_id: UUID, token_hash: bytes
) -> SignInState | None:
    """The sign-in a token claims to be of, which nobody else changes until the transaction ends."""
    family = await conn.fetchrow(LOCK_SIGN_IN, org_id, family_id)
    if family is None:
        return None
    token = await conn.fetchrow(FIND_HANDED_OUT, org_id, family_id, token_hash)
    return SignInState(
        user_id=family["user_id"],
        expires_at_us=to_us(family["expires_at"]),
        is_revoked=family["is_revoked"],
        is_used=token["is_used"] if token else None,
    )


async def use_token(
    conn: Connection, org_id: UUID, family_id: UUID, token_hash: bytes, *, now_us: int
) -> None:
    """From now on the token is a used one."""
    await conn.execute(MARK_USED, org_id, family_id, token_hash, to_datetime(now_us))


async def extend(conn: Connection, org_id: UUID, family_id: UUID, *, ends_us: int) -> None:
    """Moves the end of a sign-in."""
    await conn.execute(EXTEND_SIGN_IN, org_id, family_id, to_datetime(ends_us))


async def revoke(conn: Connection, org_id: UUID, family_id: UUID, *, now_us: int) -> bool:
    """Ends a sign-in; False when it was over."""
    status = await conn.execute(REVOKE_SIGN_IN, org_id, family_id, to_datetime(now_us))
    return status != "UPDATE 0"


async def revoke_all(conn: Connection, org_id: UUID, user_id: UUID, *, now_us: int) -> None:
    """Ends every sign-in of a person."""
    await conn.execute(REVOKE_SIGN_INS, org_id, user_id, to_datetime(now_us))
