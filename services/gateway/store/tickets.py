"""Tickets for one live connection each: a row lives until it is used or over."""

from typing import Final
from uuid import UUID

from chassis.clock import to_datetime
from chassis.postgres import Connection
from services.gateway.store.times import moment, us

# Tickets that nobody used are cleared away by whoever comes next.
ADD_TICKET: Final = """
WITH cleared AS (
  DELETE FROM live_tickets WHERE expires_at < $3
)
INSERT INTO live_tickets (org_id, ticket_id, expires_at, credential_expires_at)
VALUES ($1, $2, $4, $5)
"""

TAKE_TICKET: Final = """
DELETE FROM live_tickets
WHERE org_id = $1 AND ticket_id = $2
RETURNING credential_expires_at
"""


async def add(
    conn: Connection,
    org_id: UUID,
    ticket_id: UUID,
    *,
    now_us: int,
    expires_at_us: int,
    credential_expires_at_us: int,
) -> None:
    """Keeps a new ticket; `credential_expires_at_us` is 0 for never."""
    await conn.execute(
        ADD_TICKET,
        org_id,
        ticket_id,
        to_datetime(now_us),
        to_datetime(expires_at_us),
        moment(credential_expires_at_us),
    )


async def take(conn: Connection, org_id: UUID, ticket_id: UUID) -> int | None:
    """Uses a ticket up: when its credential ends (µs, 0 for never); None if it was used before."""
    row = await conn.fetchrow(TAKE_TICKET, org_id, ticket_id)
    return us(row["credential_expires_at"]) if row else None
