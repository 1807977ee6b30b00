"""State and announcement commit together; a relay publishes right after (ADR 0002).

A transaction collects announcements and writes them with its last breath. What was committed is
handed to the lane of its stream (chassis/relay.py), which carries it to the bus.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

from google.protobuf.message import Message

from chassis import telemetry
from chassis.bus import MAX_PAYLOAD_BYTES, Bus, check_subject
from chassis.clock import Clock, to_datetime
from chassis.errors import Invalid, Unavailable
from chassis.ids import new_id
from chassis.log import get_logger
from chassis.postgres import Connection, Pool, connection, transaction
from chassis.relay import Lane, Row
from chassis.retry import TRANSIENT

log = get_logger(__name__)

ADD_MESSAGES: Final = """
INSERT INTO outbox (id, created_at, stream, subject, type, payload, traceparent)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::bytea[],
                     $7::text[])
"""

KEEP_PARTITIONS: Final = """
SELECT outbox_keep_partitions($1, $2)
"""

PING: Final = """
SELECT 1
"""

DAYS_AHEAD: Final = 7
DAYS_KEPT: Final = 3
# Partitions are made a week ahead; looking twice a day leaves room for a database that is away.
UPKEEP_SECONDS: Final = 12 * 3600.0
UPKEEP_RETRY_SECONDS: Final = 5.0


class Transaction:
    """One transaction: its connection, and the announcements that commit with it."""

    def __init__(self, conn: Connection, clock: Clock, streams: Collection[str]) -> None:
        self.conn = conn
        self._created_at = to_datetime(clock.now_us())
        self._streams = streams
        self.rows: list[Row] = []

    def announce(
        self, stream: str, subject: str, message: Message, *, traceparent: str = ""
    ) -> None:
        """Adds one announcement; it continues `traceparent`, or else the current span.

        Raises:
            Invalid: the message is larger than the bus takes.
            ValueError: the relay does not serve the stream, or the subject could match others.
        """
        if stream not in self._streams:
            raise ValueError(f"{stream} is not among the streams of this outbox")
        check_subject(subject)
        payload = message.SerializeToString()
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise Invalid(f"This is {len(payload)} bytes at once, above {MAX_PAYLOAD_BYTES}.")
        parent = traceparent or telemetry.traceparent()
        name = message.DESCRIPTOR.full_name
        self.rows.append(Row(new_id(), self._created_at, stream, subject, name, payload, parent))


class Outbox:
    """The outbox of one service's database and the lanes that empty it, one for each stream."""

    def __init__(
        self, *, pool: Pool, bus: Bus, service: str, clock: Clock, streams: Sequence[str]
    ) -> None:
        self._pool = pool
        self._clock = clock
        source = f"timeloom/{service}"
        self._lanes = {
            stream: Lane(stream=stream, source=source, pool=pool, bus=bus, clock=clock)
            for stream in streams
        }

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """A transaction whose announcements are published after it commits.

        Raises:
            Unavailable: the database did not answer.
        """
        async with transaction(self._pool) as conn:
            current = Transaction(conn, self._clock, self._lanes)
            yield current
            if current.rows:
                await conn.execute(ADD_MESSAGES, *map(list, zip(*current.rows, strict=True)))
        self._hand_over(current.rows)

    def _hand_over(self, rows: Sequence[Row]) -> None:
        by_stream: dict[str, list[Row]] = {}
        for row in rows:
            by_stream.setdefault(row.stream, []).append(row)
        for stream, group in by_stream.items():
            self._lanes[stream].hand_over(group)

    async def run(self, stopping: asyncio.Event) -> None:
        """Relays until stopped and nothing waits; outlasts a bus or database that is away."""
        async with asyncio.TaskGroup() as group:
            for stream, lane in self._lanes.items():
                group.create_task(lane.run(stopping), name=f"outbox {stream}")
            group.create_task(self._upkeep(stopping), name="outbox upkeep")

    async def _upkeep(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            seconds = UPKEEP_SECONDS
            try:
                await self.keep_partitions()
            except TRANSIENT as error:
                log.warning("outbox.upkeep_waiting", error=repr(error))
                seconds = UPKEEP_RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await stopping.wait()

    async def keep_partitions(self) -> int:
        """Makes the partitions of the days ahead and drops old ones; how many changed."""
        async with transaction(self._pool) as conn:
            changed: int = await conn.fetchval(KEEP_PARTITIONS, DAYS_AHEAD, DAYS_KEPT)
        return changed

    async def check(self) -> None:
        """Raises Unavailable when the database can't be asked; for readiness."""
        async with connection(self._pool) as conn:
            if await conn.fetchval(PING) != 1:
                raise Unavailable("The database answers nonsense.")
