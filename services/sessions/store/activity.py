"""The events of every person, as announced: written in columns, read as evidence."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from chassis.postgres import Connection
from protos.common.v1.types_pb2 import ActivityColumns
from services.sessions.domain import Evidence, Facets, point, sample
from services.sessions.domain.evidence import domain_of
from services.sessions.store.timelines import Person

ACTIVE, IDLE, POINT, REMOVED = 1, 2, 4, 16
"""Bits of ActivityColumns.flags."""
LONG_US: Final = 3_600_000_000
"""Longer events are found by their end, see the index activity_long."""

# The highest revision wins, and within it the longest: the same rows in any order of arrival.
UPSERT_ACTIVITY: Final = """
INSERT INTO activity AS a
  (org_id, user_id, start_us, device_id, event_id, end_us, flags, revision, source,
   app, title, url, project, file, language, category)
SELECT * FROM unnest(
  $1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::uuid[], $6::bigint[], $7::int[], $8::int[],
  $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
  $16::text[])
ON CONFLICT ON CONSTRAINT activity_pkey DO UPDATE
SET end_us = excluded.end_us, flags = excluded.flags, revision = excluded.revision,
    source = excluded.source, app = excluded.app, title = excluded.title, url = excluded.url,
    project = excluded.project, file = excluded.file, language = excluded.language,
    category = excluded.category
WHERE (excluded.revision, excluded.end_us) > (a.revision, a.end_us)
RETURNING new.org_id, new.user_id, new.start_us, new.flags,
          greatest(old.end_us, new.end_us) AS end_us
"""

LOAD_ACTIVITY: Final = """
SELECT w.n, e.*
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
  WITH ORDINALITY AS w (org_id, user_id, lo, hi, n)
CROSS JOIN LATERAL (
  SELECT device_id, event_id, start_us, end_us, flags, source,
         app, title, url, project, file, language, category
  FROM activity
  WHERE org_id = w.org_id AND user_id = w.user_id
    AND start_us >= w.lo - 3600000000 AND start_us <= w.hi AND end_us >= w.lo AND flags & 16 = 0
  UNION ALL
  SELECT device_id, event_id, start_us, end_us, flags, source,
         app, title, url, project, file, language, category
  FROM activity
  WHERE org_id = w.org_id AND user_id = w.user_id
    AND start_us < w.lo - 3600000000 AND end_us >= w.lo
    AND end_us - start_us > 3600000000 AND flags & 16 = 0
) AS e
"""


class Span(msgspec.Struct, frozen=True, gc=False):
    """Where a person's evidence changed; with its former end when that was later."""

    start_us: int
    end_us: int
    is_point: bool


class ActivityRows:
    """Collects announced events of any number of people into columns for one statement."""

    def __init__(self) -> None:
        self._rows: dict[tuple[UUID, UUID, int, UUID, bytes], tuple[object, ...]] = {}
        self.people: set[Person] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, org_id: UUID, user_id: UUID, device_id: UUID, source: str, events: ActivityColumns
    ) -> None:
        """Adds one source's events; of an event that comes twice, the newest version stays."""
        self.people.add((org_id, user_id))
        count = len(events.start_us)
        numbers = [0] * count
        blanks = [""] * count
        columns = zip(
            events.event_id,
            events.start_us,
            events.duration_us or numbers,
            events.flags or numbers,
            events.revision or numbers,
            *(
                values or blanks
                for values in (
                    events.app,
                    events.title,
                    events.url,
                    events.project,
                    events.file,
                    events.language,
                    events.category,
                )
            ),
            strict=True,
        )
        for event_id, start, duration, flags, revision, *texts in columns:
            key = (org_id, user_id, start, device_id, event_id)
            row = (start + duration, flags, revision, source, *texts)
            known = self._rows.get(key)
            if known is None or (revision, row[0]) > (known[2], known[0]):
                self._rows[key] = row

    def columns(self) -> list[list[object]]:
        """One list per column of UPSERT_ACTIVITY."""
        ids = {event_id: UUID(bytes=event_id) for *_, event_id in self._rows}
        rows = [
            (org, user, start, device, ids[event_id], *row)
            for (org, user, start, device, event_id), row in self._rows.items()
        ]
        return [list(column) for column in zip(*rows, strict=True)]


async def upsert(conn: Connection, rows: ActivityRows) -> dict[Person, list[Span]]:
    """Writes what is new, longer or of a higher revision; the spans that changed, by person."""
    changed: dict[Person, list[Span]] = {}
    if not len(rows):
        return changed
    for row in await conn.fetch(UPSERT_ACTIVITY, *rows.columns()):
        span = Span(row["start_us"], row["end_us"], bool(row["flags"] & POINT))
        changed.setdefault((row["org_id"], row["user_id"]), []).append(span)
    return changed


async def load(
    conn: Connection, windows: Sequence[tuple[Person, int, int]]
) -> list[list[Evidence]]:
    """For each person and stretch every event that touches `[start_us, end_us]`, in no order.

    Removed events are left out.
    """
    columns = zip(*((*person, start, end) for person, start, end in windows), strict=True)
    found: list[list[asyncpg.Record]] = [[] for _ in windows]
    for row in await conn.fetch(LOAD_ACTIVITY, *map(list, columns)):
        found[row[0] - 1].append(row)
    return [list(_evidence(rows)) for rows in found]


def _evidence(rows: Iterable[asyncpg.Record]) -> Iterator[Evidence]:
    # People repeat themselves: one Facets and one device text for all that say the same.
    facets_of: dict[tuple[str, ...], Facets] = {}
    devices: dict[UUID, str] = {}
    for _, device_id, event_id, start, end, flags, source, *texts in rows:
        key = tuple(texts)
        facets = facets_of.get(key)
        if facets is None:
            facets = facets_of[key] = _facets(key)
        device = devices.get(device_id) or devices.setdefault(device_id, str(device_id))
        idle = True if flags & IDLE else False if flags & ACTIVE else None
        if flags & POINT:
            yield point(device, source, start, facets=facets, idle=idle, event_id=event_id.bytes)
        else:
            yield sample(
                device,
                source,
                start,
                end - start,
                facets=facets,
                idle=idle,
                event_id=event_id.bytes,
            )


def _facets(texts: tuple[str, ...]) -> Facets:
    """`texts`: app, title, url, project, file, language, category."""
    app, title, url, *rest = texts
    return Facets(app, title, url, domain_of(url) if url else "", *rest)
