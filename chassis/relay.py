"""Carries one stream's announcements from the outbox table to the bus, in the order they were made.

Straight from memory right after the commit; from the table what was left there (a crash, a full
memory, a stream that was away); and everything of the last 72 h once more when the stream lost what
it had acknowledged. Streams do not wait for one another: each has a lane of its own.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.bus import MAX_BATCH, Ack, Bus, OutMessage, StreamState
from chassis.clock import MICROSECONDS, Clock, to_datetime, to_us
from chassis.log import get_logger
from chassis.postgres import Connection, Pool, connection, transaction
from chassis.retry import TRANSIENT

log = get_logger(__name__)

# A lost mark only means a repeat, so this commit need not wait for the disk. A mark that speaks of
# an earlier life of the stream leaves the position alone.
MARK_PUBLISHED: Final = """
WITH lazy AS (
  SELECT set_config('synchronous_commit', 'off', true)
), marked AS (
  UPDATE outbox SET published_at = now()
  WHERE id = ANY($1::uuid[]) AND created_at >= $2 AND created_at <= $3
)
INSERT INTO outbox_positions (stream, created, last_seq) SELECT $4, $5, $6 FROM lazy
ON CONFLICT ON CONSTRAINT outbox_positions_pkey DO UPDATE
SET last_seq = greatest(outbox_positions.last_seq, excluded.last_seq)
WHERE outbox_positions.created = excluded.created
"""

# The oldest rows whose payloads together stay within $4 bytes, and always at least one.
FIND_LEFTOVERS: Final = """
WITH found AS (
  SELECT id, created_at, octet_length(payload) AS size
  FROM outbox
  WHERE stream = $1 AND published_at IS NULL AND created_at <= coalesce($2::timestamptz, 'infinity')
  ORDER BY id
  LIMIT $3
  FOR UPDATE SKIP LOCKED
), measured AS (
  SELECT id, created_at, sum(size) OVER (ORDER BY id) - size AS size_before FROM found
)
SELECT o.id, o.created_at, o.stream, o.subject, o.type, o.payload, o.traceparent
FROM measured m JOIN outbox o ON o.id = m.id AND o.created_at = m.created_at
WHERE m.size_before < $4
ORDER BY o.id
"""

GET_OLDEST: Final = """
SELECT created_at FROM outbox WHERE stream = $1 AND published_at IS NULL ORDER BY id LIMIT 1
"""

GET_POSITION: Final = """
SELECT created, last_seq FROM outbox_positions WHERE stream = $1
"""

LOCK_POSITION: Final = """
SELECT created, last_seq FROM outbox_positions WHERE stream = $1 FOR UPDATE
"""

REQUEUE_STREAM: Final = """
UPDATE outbox SET published_at = NULL
WHERE stream = $1 AND published_at IS NOT NULL AND created_at > now() - interval '72 hours'
"""

SET_POSITION: Final = """
UPDATE outbox_positions SET created = $2, last_seq = $3 WHERE stream = $1
"""

# What one lane keeps in memory at most; past either, rows wait in the table for the sweep.
MAX_WAITING: Final = 20_000
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
# nats-py buffers 16 MB; a batch stays well below.
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
SWEEP_SECONDS: Final = 5.0
# Rows younger than this are in the hands of the replica that committed them.
SWEEP_GRACE_SECONDS: Final = 3.0
LOOK_SECONDS: Final = 15.0
IDLE_SECONDS: Final = 0.5
FIRST_REST_SECONDS: Final = 0.25
LONGEST_REST_SECONDS: Final = 2.0
REQUEUE_SECONDS: Final = 300.0

_published = telemetry.meter.create_counter("timeloom.outbox.published", "{message}")
_leftovers = telemetry.meter.create_counter("timeloom.outbox.leftovers", "{message}")
_rewinds = telemetry.meter.create_counter("timeloom.outbox.rewinds", "{rewind}")
_oldest_age = telemetry.meter.create_gauge("timeloom.outbox.oldest_age", "s")


class Row(NamedTuple):
    """One announcement as the outbox keeps it."""

    id: UUID
    created_at: datetime
    stream: str
    subject: str
    type: str
    payload: bytes
    traceparent: str


class Lane:
    """The way of one stream."""

    def __init__(self, *, stream: str, source: str, pool: Pool, bus: Bus, clock: Clock) -> None:
        self._stream = stream
        self._source = source
        self._pool = pool
        self._bus = bus
        self._clock = clock
        self._attributes = {"timeloom.stream": stream}
        # Whatever waits here is also unpublished in the table.
        self._waiting: deque[Row] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        # Behind: the table may hold rows that are older than those in memory, or not in it.
        self._is_behind = True
        # Away: nothing is kept in memory, the table holds it all.
        self._is_away = False
        self._created = ""
        self._generation = -1
        self._look_at = 0.0
        self._sweep_at = 0.0
        self._rest_seconds = FIRST_REST_SECONDS

    def hand_over(self, rows: Sequence[Row]) -> None:
        """Takes rows that were just committed; those that find no room stay in the table."""
        if self._is_away:
            return
        size = sum(len(row.payload) for row in rows)
        is_full = (
            len(self._waiting) + len(rows) > MAX_WAITING
            or self._waiting_bytes + size > MAX_WAITING_BYTES
        )
        if is_full:
            self._is_behind = True
        else:
            self._waiting.extend(rows)
            self._waiting_bytes += size
        self._arrived.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Relays until stopped and nothing waits; outlasts a bus or database that is away."""
        while not (stopping.is_set() and self._is_done()):
            try:
                await self._turn()
            except TRANSIENT as error:
                self._lose(error)
                await self._rest(stopping)
            else:
                self._rest_seconds = FIRST_REST_SECONDS
                await self._wait(stopping)

    def _is_done(self) -> bool:
        return self._is_away or not (self._waiting or self._is_behind)

    async def _turn(self) -> None:
        now = self._clock.monotonic()
        if self._generation != self._bus.generation or now >= self._look_at or self._is_away:
            generation = self._bus.generation
            await self._look()
            self._generation = generation
            self._look_at = now + LOOK_SECONDS
        if self._is_away:
            log.info("outbox.stream_back", stream=self._stream)
            self._is_away = False
            self._is_behind = True
        if self._is_behind:
            await self._catch_up(0.0)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            if await self._measure() > SWEEP_GRACE_SECONDS:
                await self._catch_up(SWEEP_GRACE_SECONDS)
        await self._relay_waiting()

    def _lose(self, error: BaseException) -> None:
        if not self._is_away:
            log.warning("outbox.stream_away", stream=self._stream, error=repr(error))
        self._is_away = True
        self._waiting.clear()
        self._waiting_bytes = 0

    async def _rest(self, stopping: asyncio.Event) -> None:
        with contextlib.suppress(*TRANSIENT):
            await self._measure()
        generation = self._bus.generation
        ends = self._clock.monotonic() + self._rest_seconds
        self._rest_seconds = min(self._rest_seconds * 2, LONGEST_REST_SECONDS)
        while self._clock.monotonic() < ends and generation == self._bus.generation:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_REST_SECONDS):
                    await stopping.wait()
                    return

    async def _wait(self, stopping: asyncio.Event) -> None:
        if self._waiting or stopping.is_set():
            return
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._arrived.wait()

    async def _relay_waiting(self) -> None:
        # Behind again means that newer rows found no room: the sweep brings all in order.
        while self._waiting and not self._is_behind:
            rows = self._take()
            ack = await self._publish(rows)
            async with connection(self._pool) as conn:
                await self._mark(conn, rows, ack)

    def _take(self) -> list[Row]:
        rows: list[Row] = []
        size = 0
        while self._waiting and len(rows) < MAX_BATCH:
            size += len(self._waiting[0].payload)
            if rows and size > MAX_BATCH_BYTES:
                break
            rows.append(self._waiting.popleft())
        self._waiting_bytes -= sum(len(row.payload) for row in rows)
        return rows

    async def _catch_up(self, grace_seconds: float) -> None:
        while True:
            # Said before the sweep looks, so that a row left out meanwhile says it again.
            grace = 0.0 if self._is_behind else grace_seconds
            self._is_behind = False
            if not await self._sweep(grace) and not self._is_behind:
                return

    async def _sweep(self, grace_seconds: float) -> int:
        until = None
        if grace_seconds:
            until = to_datetime(self._clock.now_us() - round(grace_seconds * MICROSECONDS))
        async with transaction(self._pool) as conn:
            found = await conn.fetch(
                FIND_LEFTOVERS, self._stream, until, MAX_BATCH, MAX_BATCH_BYTES
            )
            if not found:
                return 0
            rows = [Row(*record) for record in found]
            ack = await self._publish(rows)
            await self._mark(conn, rows, ack)
        _leftovers.add(len(rows), self._attributes)
        self._drop_waiting({row.id for row in rows})
        return len(rows)

    def _drop_waiting(self, swept: set[UUID]) -> None:
        if self._waiting:
            self._waiting = deque(row for row in self._waiting if row.id not in swept)
            self._waiting_bytes = sum(len(row.payload) for row in self._waiting)

    async def _measure(self) -> float:
        """Age of the oldest row that is not published, in seconds; 0 when there is none."""
        async with connection(self._pool) as conn:
            oldest: datetime | None = await conn.fetchval(GET_OLDEST, self._stream)
        age = max(0.0, (self._clock.now_us() - to_us(oldest)) / MICROSECONDS) if oldest else 0.0
        _oldest_age.set(age, self._attributes)
        return age

    async def _publish(self, rows: Sequence[Row]) -> Ack:
        parents = [row.traceparent for row in rows if row.traceparent]
        with telemetry.span("outbox publish", SpanKind.PRODUCER, parents=parents) as span:
            span.set_attributes({**self._attributes, "timeloom.batch.size": len(rows)})
            ack = await self._bus.publish([self._message(row) for row in rows])
        _published.add(len(rows), self._attributes)
        return ack

    async def _mark(self, conn: Connection, rows: Sequence[Row], ack: Ack) -> None:
        moments = [row.created_at for row in rows]
        ids = [row.id for row in rows]
        await conn.execute(
            *(MARK_PUBLISHED, ids, min(moments), max(moments)),
            *(self._stream, self._created, ack.last_seq),
        )

    def _message(self, row: Row) -> OutMessage:
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

    async def _look(self) -> None:
        """Asks whether the stream still has what it acknowledged; if not, queues the log again."""
        # Read before asking the stream: meanwhile other replicas publish, and a position that is
        # older than the answer can't look like a loss.
        async with connection(self._pool) as conn:
            known = await conn.fetchrow(GET_POSITION, self._stream)
        state = await self._bus.stream_state(self._stream)
        self._created = state.created
        if known and _was_rewound(StreamState(*known), state):
            await self._requeue()

    async def _requeue(self) -> None:
        async with transaction(self._pool) as conn:
            known = await conn.fetchrow(LOCK_POSITION, self._stream)
            # Asked again under the lock: another replica may have seen it first.
            state = await self._bus.stream_state(self._stream)
            if not (known and _was_rewound(StreamState(*known), state)):
                return
            status = await conn.execute(REQUEUE_STREAM, self._stream, timeout=REQUEUE_SECONDS)
            await conn.execute(SET_POSITION, self._stream, state.created, state.last_seq)
        self._is_behind = True
        _rewinds.add(1, self._attributes)
        log.error("outbox.stream_rewound", stream=self._stream, requeued=status)


def _was_rewound(known: StreamState, state: StreamState) -> bool:
    return known.created != state.created or known.last_seq > state.last_seq
