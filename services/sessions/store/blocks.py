"""Blocks with their sessions: what is derived, read and replaced as a whole."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from chassis.postgres import Connection
from services.sessions.domain import Block, Facets, Kind, Session, Slice
from services.sessions.domain.intervals import Interval
from services.sessions.store.timelines import Person

# Blocks never overlap, so at most one that starts before a stretch reaches into it.
LOAD_BLOCKS: Final = """
SELECT start_us, end_us, kind, pieces
FROM blocks
WHERE org_id = $1 AND user_id = $2 AND end_us >= $3 AND start_us <= $4
  AND start_us >= coalesce(
    (SELECT max(start_us) FROM blocks WHERE org_id = $1 AND user_id = $2 AND start_us <= $3), $3)
ORDER BY start_us
"""

LOAD_REACH: Final = """
SELECT min(start_us) AS start_us, max(end_us) AS end_us
FROM blocks WHERE org_id = $1 AND user_id = $2
"""

LOAD_SESSIONS: Final = """
SELECT id, kind, start_us, end_us, active_us, idle_us, category, app, domain, project, apps,
       contexts, context_switches, interruptions, devices
FROM sessions
WHERE org_id = $1 AND user_id = $2 AND end_us > $3 AND start_us < $4
  AND start_us >= coalesce(
    (SELECT max(start_us) FROM sessions WHERE org_id = $1 AND user_id = $2 AND start_us <= $3), $3)
ORDER BY start_us
LIMIT $5
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

# Blocks that begin where one began are updated in place, the others of the extent go.
REPLACE_BLOCKS: Final = """
WITH gone AS (
  DELETE FROM blocks
  WHERE org_id = $1 AND user_id = $2 AND start_us >= $3 AND end_us <= $4
    AND start_us <> ALL ($5::bigint[])
)
INSERT INTO blocks (org_id, user_id, start_us, end_us, kind, pieces)
SELECT $1, $2, b.* FROM unnest($5::bigint[], $6::bigint[], $7::text[], $8::bytea[]) AS b
ON CONFLICT ON CONSTRAINT blocks_pkey DO UPDATE
SET end_us = excluded.end_us, kind = excluded.kind, pieces = excluded.pieces
"""

REPLACE_SESSIONS: Final = """
WITH gone AS (
  DELETE FROM sessions WHERE org_id = $1 AND user_id = $2 AND id = ANY ($3::uuid[])
)
INSERT INTO sessions
  (org_id, user_id, id, kind, start_us, end_us, active_us, idle_us, category, app, domain,
   project, apps, contexts, context_switches, interruptions, devices)
SELECT $1, $2, s.id, s.kind, s.start_us, s.end_us, s.active_us, s.idle_us, s.category, s.app,
       s.domain, s.project, s.apps, s.contexts, s.context_switches, s.interruptions, s.devices
FROM jsonb_to_recordset($4::jsonb) AS s
  (id uuid, kind text, start_us bigint, end_us bigint, active_us bigint, idle_us bigint,
   category text, app text, domain text, project text, apps text[], contexts text[],
   context_switches int, interruptions int, devices text[])
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


async def load(conn: Connection, person: Person, start_us: int, end_us: int) -> list[Block]:
    """The blocks that touch `[start_us, end_us]`, whole, in order."""
    rows = await conn.fetch(LOAD_BLOCKS, *person, start_us, end_us)
    if not rows:
        return []
    reach = (rows[0]["start_us"], rows[-1]["end_us"])
    sessions = await load_sessions(conn, person, *reach, limit=1_000_000)
    blocks = []
    at = 0
    for row in rows:
        until = at
        while until < len(sessions) and sessions[until].start_us < row["end_us"]:
            until += 1
        blocks.append(_block(row, sessions[at:until]))
        at = until
    return blocks


async def load_reach(conn: Connection, person: Person) -> Interval | None:
    """From the first block to the last; None when there are none."""
    row = await conn.fetchrow(LOAD_REACH, *person)
    if row is None or row["start_us"] is None:
        return None
    return row["start_us"], row["end_us"]


async def load_sessions(
    conn: Connection, person: Person, start_us: int, end_us: int, *, limit: int
) -> list[Session]:
    """At most `limit` sessions that overlap `[start_us, end_us)`, whole, in order."""
    rows = await conn.fetch(LOAD_SESSIONS, *person, start_us, end_us, limit)
    return [_session(row) for row in rows]


async def list_sessions(  # the filters of the contract
    conn: Connection,
    person: Person,
    extent: Interval,
    *,
    after_us: int,
    kind: str,
    category: str,
    device: str,
    limit: int,
) -> list[Session]:
    """At most `limit` sessions that overlap the extent and start after `after_us`, in order.

    Empty filters match everything; a category matches its children too.
    """
    rows = await conn.fetch(
        LIST_SESSIONS, *person, *extent, after_us, kind, category, device, limit
    )
    return [_session(row) for row in rows]


async def replace(
    conn: Connection,
    person: Person,
    extent: Interval,
    blocks: Sequence[Block],
    *,
    removed: Sequence[Session],
    upserted: Sequence[Session],
) -> None:
    """Puts `blocks` in place of every block inside the extent, and changes the sessions named."""
    await conn.execute(
        REPLACE_BLOCKS,
        *person,
        *extent,
        [block.start_us for block in blocks],
        [block.end_us for block in blocks],
        [str(block.kind) for block in blocks],
        [_encode(block) for block in blocks],
    )
    if removed or upserted:
        gone = [session.id for session in removed]
        rows = msgspec.json.encode(upserted).decode()
        await conn.execute(REPLACE_SESSIONS, *person, gone, rows)


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
