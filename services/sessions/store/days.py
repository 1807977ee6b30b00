"""Local days, stored as the contract's message so that reading is copying."""

from collections.abc import Iterable, Mapping
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

LOAD_DATES: Final = """
SELECT d.org_id, d.user_id, d.date, d.body
FROM unnest($1::uuid[], $2::uuid[], $3::date[]) AS w (org_id, user_id, date)
JOIN days AS d ON d.org_id = w.org_id AND d.user_id = w.user_id AND d.date = w.date
"""

LIST_DATES: Final = """
SELECT date FROM days WHERE org_id = $1 AND user_id = $2 ORDER BY date
"""

UPSERT_DAYS: Final = """
INSERT INTO days (org_id, user_id, date, active_us, idle_us, version, body)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::date[], $4::bigint[], $5::bigint[], $6::bigint[],
                     $7::bytea[])
ON CONFLICT ON CONSTRAINT days_pkey DO UPDATE
SET active_us = excluded.active_us, idle_us = excluded.idle_us, version = excluded.version,
    body = excluded.body
"""

DELETE_DAYS: Final = """
DELETE FROM days AS d
USING unnest($1::uuid[], $2::uuid[], $3::date[]) AS gone (org_id, user_id, date)
WHERE d.org_id = gone.org_id AND d.user_id = gone.user_id AND d.date = gone.date
"""

PersonDate = tuple[Person, date]


async def load(conn: Connection, person: Person, first: date, last: date) -> dict[date, DayMessage]:
    """Stored days from `first` to `last`, both included; days without sessions have no row."""
    rows = await conn.fetch(LOAD_DAYS, *person, first, last)
    return {row["date"]: DayMessage.FromString(row["body"]) for row in rows}


async def list_dates(conn: Connection, person: Person) -> list[date]:
    """Every date that has a row, in order."""
    rows = await conn.fetch(LIST_DATES, *person)
    return [row["date"] for row in rows]


async def load_dates(
    conn: Connection, wanted: Iterable[PersonDate]
) -> dict[PersonDate, DayMessage]:
    """The stored ones of some people's dates."""
    rows = await conn.fetch(LOAD_DATES, *_columns(wanted))
    return {
        ((row["org_id"], row["user_id"]), row["date"]): DayMessage.FromString(row["body"])
        for row in rows
    }


async def write(conn: Connection, days: Mapping[PersonDate, DayMessage]) -> None:
    """Writes whole days; those without sessions go."""
    kept = {key: day for key, day in days.items() if day.session_count}
    if kept:
        await conn.execute(
            UPSERT_DAYS,
            *_columns(kept),
            [day.active_us for day in kept.values()],
            [day.idle_us for day in kept.values()],
            [day.version for day in kept.values()],
            [day.SerializeToString(deterministic=True) for day in kept.values()],
        )
    if len(kept) < len(days):
        await conn.execute(DELETE_DAYS, *_columns(key for key in days if key not in kept))


def _columns(keys: Iterable[PersonDate]) -> list[list[object]]:
    rows = [(*person, day) for person, day in keys]
    return [list(column) for column in zip(*rows, strict=True)]
