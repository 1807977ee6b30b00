"""Answers already given, by caller and Idempotency-Key."""

from typing import Final
from uuid import UUID

import msgspec

from chassis.clock import to_datetime
from chassis.postgres import Connection

# An abandoned claim (the process died before it answered) is taken over after $7.
CLAIM_KEY: Final = """
INSERT INTO idempotency_keys AS i (org_id, user_id, credential_id, key_hash, request_hash,
                                   created_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO UPDATE
SET request_hash = excluded.request_hash, created_at = excluded.created_at, status = NULL,
    answer = NULL
WHERE (i.status IS NULL AND i.created_at < $7) OR i.created_at < $8
RETURNING key_hash
"""

GET_ANSWER: Final = """
SELECT request_hash, status, answer
FROM idempotency_keys
WHERE org_id = $1 AND user_id = $2 AND credential_id = $3 AND key_hash = $4
"""

KEEP_ANSWER: Final = """
UPDATE idempotency_keys SET status = $5, answer = $6
WHERE org_id = $1 AND user_id = $2 AND credential_id = $3 AND key_hash = $4
"""

RELEASE_KEY: Final = """
DELETE FROM idempotency_keys
WHERE org_id = $1 AND user_id = $2 AND credential_id = $3 AND key_hash = $4 AND status IS NULL
"""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key it is: one credential's, since answers may hold what others must not see."""

    org_id: UUID
    user_id: UUID
    credential_id: str
    key_hash: bytes

    def columns(self) -> tuple[UUID, UUID, str, bytes]:
        """The primary key."""
        return (self.org_id, self.user_id, self.credential_id, self.key_hash)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered; status 0 while the first request is still running."""

    request_hash: bytes
    status: int
    answer: bytes


async def claim(
    conn: Connection,
    place: Place,
    request_hash: bytes,
    *,
    now_us: int,
    abandoned_before_us: int,
    forgotten_before_us: int,
) -> bool:
    """True for the first who asks; they answer with `keep` or `release`."""
    claimed = await conn.fetchval(
        CLAIM_KEY,
        *place.columns(),
        request_hash,
        to_datetime(now_us),
        to_datetime(abandoned_before_us),
        to_datetime(forgotten_before_us),
    )
    return claimed is not None


async def get(conn: Connection, place: Place) -> Answer | None:
    """What is known of the key; None when it was released meanwhile."""
    row = await conn.fetchrow(GET_ANSWER, *place.columns())
    if row is None:
        return None
    return Answer(
        request_hash=row["request_hash"], status=row["status"] or 0, answer=row["answer"] or b""
    )


async def keep(conn: Connection, place: Place, status: int, answer: bytes) -> None:
    """Keeps the answer for whoever asks again."""
    await conn.execute(KEEP_ANSWER, *place.columns(), status, answer)


async def release(conn: Connection, place: Place) -> None:
    """Gives the key back: nothing was done."""
    await conn.execute(RELEASE_KEY, *place.columns())
