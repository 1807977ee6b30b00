"""Blocks with their sessions: what is derived, read and replaced as a whole."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from chassis.postgres import Connection
from services.sessions.domain import Block, Facets, Kind, Session, Slice
from services.sessions.domain.intervals import Interval
from services.sessions.store.timelines import Person

# Blocks never overlap, so at most one that starts before a stretch reaches into it.
LOAD_BLOCKS: Final = """
SELECT w.n, b.start_us, b.end_us, b.kind, b.pieces
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
  WITH ORDINALITY AS w (org_id, user_id, lo, hi, n)
CROSS JOIN LATERAL (
  SELECT start_us, end_us, kind, pieces
  FROM blocks
  WHERE org_id = w.org_id AND user_id = w.user_id AND end_us >= w.lo AND start_us <= w.hi
    AND start_us >= coalesce(
      (SELECT max(start_us) FROM blocks
       WHERE org_id = w.org_id AND user_id = w.user_id AND start_us <= w.lo), w.lo)
) AS b
ORDER BY w.n, b.start_us
"""

LOAD_SESSIONS: Final = """
SELECT w.n, s.id, s.kind, s.start_us, s.end_us, s.active_us, s.idle_us, s.category, s.app, s.domain,
       s.project, s.apps, s.contexts, s.context_switches, s.interruptions, s.devices
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
  WITH ORDINALITY AS w (org_id, user_id, lo, hi, n)
JOIN sessions AS s
  ON s.org_id = w.org_id AND s.user_id = w.user_id AND s.start_us >= w.lo AND s.start_us < w.hi
ORDER BY w.n, s.start_us
"""

LOAD_REACH: Final = """
SELECT min(start_us) AS start_us, max(end_us) AS end_us
FROM blocks WHERE org_id = $1 AND user_id = $2
"""

LIST_SESSIONS: Final = """
SELECT id, kind, start_us, end_us, active_us, idle_us, category, app, domain, project, apps,
       contexts, context_switches, interruptions, devices
FROM sessions
WHERE org_id = $1 AND user_id = $2 AND end_us > $3 AND start_us < $4 AND start_us > $5
  AND start_us >= coalesce(
    (SELECT max(start_us) FROM sessions WHERE org_id = $1 AND user_id = $2 AND start_us <= $3), $3)
  AND ($6 = '' OR kind = $6)
  AND ($7 = '' OR category = $7 OR starts_with(category, $7 || '/'))
  AND ($8 = '' OR $8 = ANY(devices))
ORDER BY start_us
LIMIT $9
"""

DELETE_BLOCKS: Final = """
DELETE FROM blocks AS b
USING unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS gone (org_id, user_id, start_us)
WHERE b.org_id = gone.org_id AND b.user_id = gone.user_id AND b.start_us = gone.start_us
"""

UPSERT_BLOCKS: Final = """
INSERT INTO blocks (org_id, user_id, start_us, end_us, kind, pieces)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[])
ON CONFLICT ON CONSTRAINT blocks_pkey DO UPDATE
SET end_us = excluded.end_us, kind = excluded.kind, pieces = excluded.pieces
"""

DELETE_SESSIONS: Final = """
DELETE FROM sessions AS s
USING unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[])
  AS gone (org_id, user_id, start_us, kind)
WHERE s.org_id = gone.org_id AND s.user_id = gone.user_id AND s.start_us = gone.start_us
  AND s.kind = gone.kind
"""

UPSERT_SESSIONS: Final = """
INSERT INTO sessions
  (org_id, user_id, id, kind, start_us, end_us, active_us, idle_us, category, app, domain,
   project, apps, contexts, context_switches, interruptions, devices)
SELECT s.org_id, s.user_id, s.id, s.kind, s.start_us, s.end_us, s.active_us, s.idle_us, s.category,
       s.app, s.domain, s.project, s.apps, s.contexts, s.context_switches, s.interruptions,
       s.devices
FROM ROWS FROM (
  unnest($1::uuid[]), unnest($2::uuid[]),
  jsonb_to_recordset($3::jsonb) AS
    (id uuid, kind text, start_us bigint, end_us bigint, active_us bigint, idle_us bigint,
     category text, app text, domain text, project text, apps text[], contexts text[],
     context_switches int, interruptions int, devices text[])
) AS s (org_id, user_id, id, kind, start_us, end_us, active_us, idle_us, category, app, domain,
        project, apps, contexts, context_switches, interruptions, devices)
ON CONFLICT ON CONSTRAINT sessions_pkey DO UPDATE
SET end_us = excluded.end_us, active_us = excluded.active_us, idle_us = excluded.idle_us,
    category = excluded.category, app = excluded.app, domain = excluded.domain,
    project = excluded.project, apps = excluded.apps, contexts = excluded.contexts,
    context_switches = excluded.context_switches, interruptions = excluded.interruptions,
    devices = excluded.devices
"""


class _Pieces(msgspec.Struct, array_like=True, gc=False):
    """How a block's slices lie in one column: attributes once, slices as numbers.

    Each slice is start, length, and the places of its attributes, category and device.
    """

    facets: list[tuple[str, ...]]
    names: list[str]
    slices: list[tuple[int, int, int, int, int]]
    idle: list[tuple[int, int]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Pieces)


class Window(NamedTuple):
    """A person's stretch `[start_us, end_us]`."""

    person: Person
    start_us: int
    end_us: int


async def load(conn: Connection, windows: Sequence[Window]) -> list[list[Block]]:
    """For each window the blocks that touch it, whole, in order."""
    found: list[list[asyncpg.Record]] = [[] for _ in windows]
    for row in await conn.fetch(LOAD_BLOCKS, *_columns(windows)):
        found[row["n"] - 1].append(row)
    reach = [
        Window(window.person, rows[0]["start_us"], rows[-1]["end_us"]) if rows else window
        for window, rows in zip(windows, found, strict=True)
    ]
    sessions: list[list[Session]] = [[] for _ in windows]
    if any(found):
        for row in await conn.fetch(LOAD_SESSIONS, *_columns(reach)):
            sessions[row["n"] - 1].append(_session(row))
    return [_assembled(rows, own) for rows, own in zip(found, sessions, strict=True)]


def _columns(windows: Iterable[Window]) -> list[list[Any]]:
    rows = [(*window.person, window.start_us, window.end_us) for window in windows]
    return [list(column) for column in zip(*rows, strict=True)]


def _assembled(rows: Sequence[asyncpg.Record], sessions: Sequence[Session]) -> list[Block]:
    """Blocks with the sessions that begin inside them; both in order."""
    blocks = []
    at = 0
    for row in rows:
        until = at
        while until < len(sessions) and sessions[until].start_us < row["end_us"]:
            until += 1
        blocks.append(_block(row, list(sessions[at:until])))
        at = until
    return blocks


async def load_reach(conn: Connection, person: Person) -> Interval | None:
    """From the first block to the last; None when there are none."""
    row = await conn.fetchrow(LOAD_REACH, *person)
    if row is None or row["start_us"] is None:
        return None
    return row["start_us"], row["end_us"]


async def list_sessions(  # the filters of the contract
    conn: Connection,
    person: Person,
    extent: Interval,
    *,
    limit: int,
    after_us: int = -(1 << 62),
    kind: str = "",
    category: str = "",
    device: str = "",
) -> list[Session]:
    """At most `limit` sessions that overlap the extent and start after `after_us`, in order.

    Empty filters match everything; a category matches its children too.
    """
    rows = await conn.fetch(
        LIST_SESSIONS, *person, *extent, after_us, kind, category, device, limit
    )
    return [_session(row) for row in rows]


class Replacement(msgspec.Struct):
    """What becomes of a person's rows: blocks and sessions that go, and that come or change."""

    person: Person
    gone_blocks: list[Block]
    new_blocks: list[Block]
    gone_sessions: list[Session]
    new_sessions: list[Session]


async def replace(conn: Connection, replacements: Sequence[Replacement]) -> None:
    """Writes the replacements of any number of people, one statement for each kind of row."""
    gone = [(*r.person, block.start_us) for r in replacements for block in r.gone_blocks]
    if gone:
        await conn.execute(DELETE_BLOCKS, *map(list, zip(*gone, strict=True)))
    new = [
        (*r.person, block.start_us, block.end_us, str(block.kind), _encode(block))
        for r in replacements
        for block in r.new_blocks
    ]
    if new:
        await conn.execute(UPSERT_BLOCKS, *map(list, zip(*new, strict=True)))
    ended = [
        (*r.person, one.start_us, str(one.kind)) for r in replacements for one in r.gone_sessions
    ]
    if ended:
        await conn.execute(DELETE_SESSIONS, *map(list, zip(*ended, strict=True)))
    told = [(*r.person, one) for r in replacements for one in r.new_sessions]
    if told:
        orgs, users, sessions = map(list, zip(*told, strict=True))
        rows = msgspec.json.encode(sessions).decode()
        await conn.execute(UPSERT_SESSIONS, orgs, users, rows)


def _session(row: asyncpg.Record) -> Session:
    return Session(
        id=UUID(bytes=row["id"].bytes),
        kind=Kind(row["kind"]),
        start_us=row["start_us"],
        end_us=row["end_us"],
        active_us=row["active_us"],
        idle_us=row["idle_us"],
        category=row["category"],
        app=row["app"],
        domain=row["domain"],
        project=row["project"],
        apps=tuple(row["apps"]),
        contexts=tuple(row["contexts"]),
        context_switches=row["context_switches"],
        interruptions=row["interruptions"],
        devices=tuple(row["devices"]),
    )


def _encode(block: Block) -> bytes:
    facets: dict[Facets, int] = {}
    names: dict[str, int] = {}
    slices = []
    for piece in block.slices:
        place = facets.setdefault(piece.facets, len(facets))
        category = names.setdefault(piece.category, len(names))
        device = names.setdefault(piece.device, len(names))
        length = piece.end_us - piece.start_us
        slices.append((piece.start_us, length, place, category, device))
    rows = [tuple(str(text) for text in msgspec.structs.astuple(one)) for one in facets]
    return _encoder.encode(_Pieces(rows, list(names), slices, list(block.idle)))


def _block(row: asyncpg.Record, sessions: list[Session]) -> Block:
    pieces = _decoder.decode(row["pieces"])
    facets = [Facets(*texts) for texts in pieces.facets]
    names = pieces.names
    return Block(
        kind=Kind(row["kind"]),
        start_us=row["start_us"],
        end_us=row["end_us"],
        sessions=sessions,
        slices=[
            Slice(start, start + length, facets[place], names[category], names[device])
            for start, length, place, category, device in pieces.slices
        ],
        idle=pieces.idle,
    )
