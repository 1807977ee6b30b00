"""Invitations: open, accepted, revoked or expired."""

from typing import Final
from uuid import UUID

import asyncpg

from chassis.clock import to_datetime, to_us
from chassis.postgres import Connection
from services.gateway.domain import Invitation
from services.gateway.store.times import moment, us

ADD_INVITATION: Final = """
INSERT INTO invitations (org_id, invitation_id, token_hash, email, role, guest_until, invited_by,
                         created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

FIND_INVITATION: Final = """
SELECT org_id, invitation_id, email, role, guest_until, invited_by, created_at, expires_at,
       accepted_at, revoked_at
FROM invitations
WHERE org_id = $1 AND invitation_id = $2 AND token_hash = $3
"""

LIST_INVITATIONS: Final = """
SELECT org_id, invitation_id, email, role, guest_until, invited_by, created_at, expires_at,
       accepted_at, revoked_at
FROM invitations
WHERE org_id = $1 AND invitation_id < $2
ORDER BY invitation_id DESC
LIMIT $3
"""

# Of two who accept at once, the second finds the row changed and gets nothing.
ACCEPT_INVITATION: Final = """
UPDATE invitations SET accepted_at = $3
WHERE org_id = $1 AND invitation_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL
      AND expires_at > $3
"""

REVOKE_INVITATION: Final = """
UPDATE invitations SET revoked_at = $3
WHERE org_id = $1 AND invitation_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL
"""

REVOKE_INVITATIONS_BY: Final = """
UPDATE invitations SET revoked_at = $3
WHERE org_id = $1 AND invited_by = $2 AND accepted_at IS NULL AND revoked_at IS NULL
"""

KNOWS_INVITATION: Final = """
SELECT EXISTS (SELECT FROM invitations WHERE org_id = $1 AND invitation_id = $2)
"""

FORGET_ADDRESS: Final = """
DELETE FROM invitations WHERE lower(email) = lower($1)
"""


async def add(conn: Connection, invitation: Invitation, *, token_hash: bytes) -> None:
    """Keeps a new invitation."""
    await conn.execute(
        ADD_INVITATION,
        invitation.org_id,
        invitation.invitation_id,
        token_hash,
        invitation.email,
        invitation.role,
        moment(invitation.guest_until_us),
        invitation.invited_by,
        to_datetime(invitation.created_at_us),
        to_datetime(invitation.expires_at_us),
    )


async def find(
    conn: Connection, org_id: UUID, invitation_id: UUID, token_hash: bytes, *, now_us: int
) -> Invitation | None:
    """The invitation that a token opens, whatever its state."""
    row = await conn.fetchrow(FIND_INVITATION, org_id, invitation_id, token_hash)
    return _invitation(row, now_us) if row else None


async def list_invitations(
    conn: Connection, org_id: UUID, *, before: UUID, limit: int, now_us: int
) -> list[Invitation]:
    """Invitations of an organization, newest first, with ids below `before`."""
    rows = await conn.fetch(LIST_INVITATIONS, org_id, before, limit)
    return [_invitation(row, now_us) for row in rows]


async def accept(conn: Connection, org_id: UUID, invitation_id: UUID, *, now_us: int) -> bool:
    """Uses an invitation up; False when it is not open any more."""
    status = await conn.execute(ACCEPT_INVITATION, org_id, invitation_id, to_datetime(now_us))
    return status != "UPDATE 0"


async def revoke(conn: Connection, org_id: UUID, invitation_id: UUID, *, now_us: int) -> bool:
    """Takes an invitation back; False when it is over already."""
    status = await conn.execute(REVOKE_INVITATION, org_id, invitation_id, to_datetime(now_us))
    return status != "UPDATE 0"


async def revoke_by(conn: Connection, org_id: UUID, user_id: UUID, *, now_us: int) -> None:
    """Takes back what a person who may not invite any more has offered."""
    await conn.execute(REVOKE_INVITATIONS_BY, org_id, user_id, to_datetime(now_us))


async def is_known(conn: Connection, org_id: UUID, invitation_id: UUID) -> bool:
    """Whether there is such an invitation, in whatever state."""
    known: bool = await conn.fetchval(KNOWS_INVITATION, org_id, invitation_id)
    return known


async def forget_address(conn: Connection, email: str) -> None:
    """Removes every invitation to an address, in all organizations."""
    await conn.execute(FORGET_ADDRESS, email)


def _invitation(row: asyncpg.Record, now_us: int) -> Invitation:
    expires_at_us = to_us(row["expires_at"])
    state = "open" if expires_at_us > now_us else "expired"
    if row["accepted_at"]:
        state = "accepted"
    elif row["revoked_at"]:
        state = "revoked"
    return Invitation(
        org_id=row["org_id"],
        invitation_id=row["invitation_id"],
        email=row["email"],
        role=row["role"],
        guest_until_us=us(row["guest_until"]),
        invited_by=row["invited_by"],
        created_at_us=to_us(row["created_at"]),
        expires_at_us=expires_at_us,
        state=state,
    )
