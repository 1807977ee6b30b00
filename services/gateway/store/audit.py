"""The audit log: rows are added and read, never changed."""

from typing import Final
from uuid import UUID

import msgspec

from chassis.clock import to_datetime, to_us
from chassis.postgres import Connection
from services.gateway.domain import AuditEntry

ADD_ENTRY: Final = """
INSERT INTO audit_log (org_id, entry_id, at, actor_id, credential_id, action, target, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb)
"""

LIST_ENTRIES: Final = """
SELECT entry_id, at, actor_id, credential_id, action, target, detail::text AS detail
FROM audit_log
WHERE org_id = $1 AND entry_id < $2
ORDER BY entry_id DESC
LIMIT $3
"""

_decode_detail: Final = msgspec.json.Decoder(dict[str, object]).decode


async def add(conn: Connection, org_id: UUID, entry: AuditEntry) -> None:
    """Keeps an entry for good."""
    await conn.execute(
        ADD_ENTRY,
        org_id,
        entry.entry_id,
        to_datetime(entry.at_us),
        entry.actor_id,
        entry.credential_id,
        entry.action,
        entry.target,
        msgspec.json.encode(entry.detail).decode(),
    )


async def list_entries(
    conn: Connection, org_id: UUID, *, before: UUID, limit: int
) -> list[AuditEntry]:
    """Entries of an organization, newest first, with ids below `before`."""
    rows = await conn.fetch(LIST_ENTRIES, org_id, before, limit)
    return [
        AuditEntry(
            entry_id=row["entry_id"],
            at_us=to_us(row["at"]),
            actor_id=row["actor_id"],
            credential_id=row["credential_id"],
            action=row["action"],
            target=row["target"],
            detail=_decode_detail(row["detail"]),
        )
        for row in rows
    ]
