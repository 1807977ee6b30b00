"""Local days, stored as the contract's message so that reading is copying."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

from chassis.postgres import Connection
from protos.sessions.v1.sessions_pb2 import Day as DayMessage
from services.sessions.store.timelines import Person

LOAD_DAYS: Final = """
SELECT date, body FROM days
WHERE org_id = $1 AND user_id = $2 AND date >= $3 AND date <= $4
ORDER BY date
"""

LIST_DATES: Final = """
SELECT date FROM days WHERE org_id = $1 AND user_id = $2 ORDER BY date
"""

UPSERT_DAYS: Final = """
INSERT INTO days (org_id, user_id, date, active_us, idle_us, version, body)
SELECT $1, $2, d.* FROM unnest($3::date[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])
  AS d
ON CONFLICT ON CONSTRAINT days_pkey DO UPDATE
SET active_us = excluded.active_us, idle_us = excluded.idle_us, version = excluded.version,
    body = excluded.body
"""

DELETE_DAYS: Final = """
DELETE FROM days WHERE org_id = $1 AND user_id = $2 AND date = ANY($3::date[])
"""


async def load(conn: Connection, person: Person, first: date, last: date) -> dict[date, DayMessage]:
    """Stored days from `first` to `last`, both included; days without sessions have no row."""
    rows = await conn.fetch(LOAD_DAYS, *person, first, last)
    return {row["date"]: DayMessage.FromString(row["body"]) for row in rows}


async def list_dates(conn: Connection, person: Person) -> list[date]:
    """Every date that has a row, in order."""
    rows = await conn.fetch(LIST_DATES, *person)
    return [row["date"] for row in rows]


async def upsert(conn: Connection, person: Person, days: Sequence[DayMessage]) -> None:
    """Writes whole days."""
    await conn.execute(
        UPSERT_DAYS,
        *person,
        [date.fromisoformat(day.date) for day in days],
        [day.active_us for day in days],
        [day.idle_us for day in days],
        [day.version for day in days],
        [day.SerializeToString(deterministic=True) for day in days],
    )


async def delete(conn: Connection, person: Person, dates: Iterable[date]) -> None:
    """Removes days that have no sessions any more."""
    await conn.execute(DELETE_DAYS, *person, list(dates))
