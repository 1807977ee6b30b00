"""State and announcement commit together; a relay publishes right after (ADR 0002).

The relay is handed what was just committed and sweeps what it missed: on start, after trouble and
on a timer. When a stream lost acknowledged messages, everything of the last 72 h is published
again; the inboxes of the consumers drop what they had.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from google.protobuf.message import Message
from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.bus import MAX_BATCH, Bus, OutMessage
from chassis.clock import Clock, to_datetime
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.log import get_logger
from chassis.postgres import Connection, Pool, connection, transaction
from chassis.retry import TRANSIENT

log = get_logger(__name__)

ADD_MESSAGES: Final = """
INSERT INTO outbox (id, created_at, stream, subject, type, payload, traceparent)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::bytea[],
                     $7::text[])
"""

# A lost mark only means a repeat, so this commit need not wait for the disk.
MARK_PUBLISHED: Final = """
WITH lazy AS (
  SELECT set_config('synchronous_commit', 'off', true)
), marked AS (
  UPDATE outbox SET published_at = now()
  WHERE id = ANY($1::uuid[]) AND created_at >= $2 AND created_at <= $3
)
INSERT INTO outbox_positions (stream, created, last_seq) SELECT $4, $5, $6 FROM lazy
ON CONFLICT ON CONSTRAINT outbox_positions_pkey DO UPDATE
SET created = excluded.created, last_seq = greatest(outbox_positions.last_seq, excluded.last_seq)
"""

# Rows younger than the grace are in the hands of the process that committed them.
FIND_LEFTOVERS: Final = """
SELECT id, created_at, stream, subject, type, payload, traceparent
FROM outbox
WHERE published_at IS NULL AND created_at < now() - make_interval(secs => $1)
ORDER BY id
LIMIT $2
FOR UPDATE SKIP LOCKED
"""

GET_POSITION: Final = """
SELECT created, last_seq FROM outbox_positions WHERE stream = $1
"""

REQUEUE_STREAM: Final = """
UPDATE outbox SET published_at = NULL
WHERE stream = $1 AND published_at IS NOT NULL AND created_at > now() - interval '72 hours'
"""

SET_POSITION: Final = """
INSERT INTO outbox_positions (stream, created, last_seq) VALUES ($1, $2, $3)
ON CONFLICT ON CONSTRAINT outbox_positions_pkey DO UPDATE
SET created = excluded.created, last_seq = excluded.last_seq
"""

KEEP_PARTITIONS: Final = """
SELECT outbox_keep_partitions($1, $2)
"""

# Committed rows waiting for the relay. When full, rows stay in the table for the sweep.
MAX_WAITING: Final = 20_000
SWEEP_SECONDS: Final = 5.0
SWEEP_GRACE_SECONDS: Final = 3.0
DAYS_AHEAD: Final = 7
DAYS_KEPT: Final = 3

_published = telemetry.meter.create_counter("timeloom.outbox.published", "{message}")
_leftovers = telemetry.meter.create_counter("timeloom.outbox.leftovers", "{message}")
_rewinds = telemetry.meter.create_counter("timeloom.outbox.rewinds", "{rewind}")


class _Row(NamedTuple):
    id: UUID
    created_at: datetime
    stream: str
    subject: str
    type: str
    payload: bytes
    traceparent: str


class Transaction:
    """One transaction: its connection, and the announcements that commit with it."""

    def __init__(self, conn: Connection, clock: Clock) -> None:
        self.conn = conn
        self._created_at = to_datetime(clock.now_us())
        self.rows: list[_Row] = []

    def announce(
        self, stream: str, subject: str, message: Message, *, traceparent: str = ""
    ) -> None:
        """Adds one announcement; it continues `traceparent`, or else the current span."""
        parent = traceparent or telemetry.traceparent()
        self.rows.append(
            _Row(
                new_id(),
                self._created_at,
                stream,
                subject,
                message.DESCRIPTOR.full_name,
                message.SerializeToString(),
                parent,
            )
        )


class Outbox:
    """The outbox of one service's database and the relay that empties it."""

    def __init__(
        self, *, pool: Pool, bus: Bus, service: str, clock: Clock, streams: Sequence[str]
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._source = f"timeloom/{service}"
        self._clock = clock
        self._streams = tuple(streams)
        self._created: dict[str, str] = {}
        self._waiting: deque[_Row] = deque()
        self._arrived = asyncio.Event()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """A transaction whose announcements are published after it commits.

        Raises:
            Unavailable: the database did not answer.
        """
        async with transaction(self._pool) as conn:
            current = Transaction(conn, self._clock)
            yield current
            if current.rows:
                await conn.execute(ADD_MESSAGES, *map(list, zip(*current.rows, strict=True)))
        self._hand_over(current.rows)

    def _hand_over(self, rows: Sequence[_Row]) -> None:
        if rows and len(self._waiting) + len(rows) <= MAX_WAITING:
            self._waiting.extend(rows)
            self._arrived.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Relays until stopped and nothing waits; never raises for a bus or database that is away."""
        generation = -1
        swept = 0.0
        while not (stopping.is_set() and not self._waiting):
            try:
                if generation != self._bus.generation:
                    reached = self._bus.generation
                    await self._check_rewinds()
                    await self.keep_partitions()
                    generation = reached
                    swept = 0.0
                if self._clock.monotonic() - swept > SWEEP_SECONDS:
                    grace = SWEEP_GRACE_SECONDS if swept else 0.0
                    await self._sweep(grace)
                    swept = self._clock.monotonic()
                await self._relay_waiting()
            except TRANSIENT as error:
                # What was handed over is still in the table; the sweep brings it back in order.
                log.warning("outbox.waiting", error=repr(error))
                self._waiting.clear()
                if stopping.is_set():
                    return
                await asyncio.sleep(0.25)
                swept = 0.0
                continue
            await self._wait(stopping)

    async def _wait(self, stopping: asyncio.Event) -> None:
        if self._waiting or stopping.is_set():
            return
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._arrived.wait()

    async def _relay_waiting(self) -> None:
        while self._waiting:
            count = min(len(self._waiting), MAX_BATCH)
            await self._publish([self._waiting.popleft() for _ in range(count)])

    async def _sweep(self, grace_seconds: float) -> None:
        while True:
            async with transaction(self._pool) as conn:
                found = await conn.fetch(FIND_LEFTOVERS, grace_seconds, MAX_BATCH)
                rows = [_Row(*record) for record in found]
                if rows:
                    _leftovers.add(len(rows))
                    await self._publish(rows, conn)
            if len(rows) < MAX_BATCH:
                return

    async def _publish(self, rows: Sequence[_Row], conn: Connection | None = None) -> None:
        by_stream: dict[str, list[_Row]] = {}
        for row in rows:
            by_stream.setdefault(row.stream, []).append(row)
        for stream, group in by_stream.items():
            parents = [row.traceparent for row in group if row.traceparent]
            with telemetry.span("outbox publish", SpanKind.PRODUCER, parents=parents) as span:
                span.set_attribute("timeloom.stream", stream)
                ack = await self._bus.publish([self._message(row) for row in group])
            _published.add(len(group), {"timeloom.stream": stream})
            if conn is None:
                async with connection(self._pool) as held:
                    await self._mark(held, stream, group, ack.last_seq)
            else:
                await self._mark(conn, stream, group, ack.last_seq)

    async def _mark(
        self, conn: Connection, stream: str, group: Sequence[_Row], last_seq: int
    ) -> None:
        created = self._created.get(stream)
        if created is None:
            created = (await self._bus.stream_state(stream)).created
            self._created[stream] = created
        moments = [row.created_at for row in group]
        ids = [row.id for row in group]
        await conn.execute(
            MARK_PUBLISHED, ids, min(moments), max(moments), stream, created, last_seq
        )

    def _message(self, row: _Row) -> OutMessage:
        headers = {
            "ce-specversion": "1.0",
            "ce-id": str(row.id),
            "ce-type": row.type,
            "ce-source": self._source,
            "ce-time": row.created_at.astimezone(UTC).isoformat(),
            "ce-subject": row.subject,
        }
        if row.traceparent:
            headers["traceparent"] = row.traceparent
        return OutMessage(row.subject, row.payload, str(row.id), headers)

    async def _check_rewinds(self) -> None:
        for stream in self._streams:
            state = await self._bus.stream_state(stream)
            async with transaction(self._pool) as conn:
                known = await conn.fetchrow(GET_POSITION, stream)
                if known and (
                    known["created"] != state.created or known["last_seq"] > state.last_seq
                ):
                    status = await conn.execute(REQUEUE_STREAM, stream)
                    _rewinds.add(1, {"timeloom.stream": stream})
                    log.error("outbox.stream_rewound", stream=stream, requeued=status)
                    await conn.execute(SET_POSITION, stream, state.created, state.last_seq)
                self._created[stream] = state.created

    async def keep_partitions(self) -> int:
        """Makes the partitions of the days ahead and drops old ones; how many changed."""
        async with transaction(self._pool) as conn:
            changed: int = await conn.fetchval(KEEP_PARTITIONS, DAYS_AHEAD, DAYS_KEPT)
        return changed

    async def check(self) -> None:
        """Raises Unavailable when the database can't be asked; for readiness."""
        async with connection(self._pool) as conn:
            if await conn.fetchval("SELECT 1") != 1:
                raise Unavailable("The database answers nonsense.")
