"""Devices by key, and what their agents call them."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from chassis.clock import to_datetime, to_us
from chassis.postgres import Connection
from services.gateway.domain import Device

# A device keeps the first name and kind it is given.
KEEP_DEVICE: Final = """
INSERT INTO devices AS d (org_id, device_id, user_id, client_id, name, kind, first_seen_at,
                          last_seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT ON CONSTRAINT devices_pkey DO UPDATE
SET last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at),
    name = CASE WHEN d.name = '' THEN excluded.name ELSE d.name END,
    kind = CASE WHEN d.kind = '' THEN excluded.kind ELSE d.kind END
"""

# Locked in order of the id, so that two replicas never wait for one another in a circle.
TOUCH_DEVICES: Final = """
WITH touched AS (
  SELECT d.org_id, d.device_id, t.at
  FROM devices d
  JOIN unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS t (org_id, device_id, at)
    ON t.org_id = d.org_id AND t.device_id = d.device_id
  ORDER BY d.org_id, d.device_id
  FOR UPDATE OF d
)
UPDATE devices d
SET last_seen_at = greatest(d.last_seen_at, touched.at)
FROM touched
WHERE d.org_id = touched.org_id AND d.device_id = touched.device_id
"""

LIST_DEVICES: Final = """
SELECT device_id, user_id, client_id, name, kind, first_seen_at, last_seen_at
FROM devices
WHERE org_id = $1 AND user_id = $2 AND device_id > $3
ORDER BY device_id
LIMIT $4
"""

FIND_CLIENT_IDS: Final = """
SELECT device_id, client_id
FROM devices
WHERE org_id = $1 AND device_id = ANY($2::uuid[])
"""


async def keep(conn: Connection, org_id: UUID, device: Device) -> None:
    """Makes a device known, or notes that it was seen."""
    await conn.execute(
        KEEP_DEVICE,
        org_id,
        device.device_id,
        device.user_id,
        device.client_id,
        device.name,
        device.kind,
        to_datetime(device.first_seen_us),
        to_datetime(device.last_seen_us),
    )


async def touch(conn: Connection, seen: Sequence[tuple[UUID, UUID, int]]) -> None:
    """Notes when devices were last seen: (organization, device, µs)."""
    orgs, keys, times = zip(*seen, strict=True)
    await conn.execute(TOUCH_DEVICES, list(orgs), list(keys), [to_datetime(at) for at in times])


async def list_devices(
    conn: Connection, org_id: UUID, user_id: UUID, *, after: UUID, limit: int
) -> list[Device]:
    """A person's devices by key, with keys above `after`."""
    return [_device(row) for row in await conn.fetch(LIST_DEVICES, org_id, user_id, after, limit)]


async def client_ids(conn: Connection, org_id: UUID, device_ids: Sequence[UUID]) -> dict[UUID, str]:
    """What agents call these devices; unknown ones are missing."""
    rows = await conn.fetch(FIND_CLIENT_IDS, org_id, list(device_ids))
    return {row["device_id"]: row["client_id"] for row in rows}


def _device(row: asyncpg.Record) -> Device:
    return Device(
        device_id=row["device_id"],
        user_id=row["user_id"],
        client_id=row["client_id"],
        name=row["name"],
        kind=row["kind"],
        first_seen_us=to_us(row["first_seen_at"]),
        last_seen_us=to_us(row["last_seen_at"]),
    )
