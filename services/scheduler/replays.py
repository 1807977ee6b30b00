"""Publishes dead letters again, on the subject they came from.

A replay is a row before it is a message, and its id on the bus follows from that row: a crash
between the two, or after, only repeats a message that the stream or the inbox drops. It does not go
through the outbox, which writes its own ids and headers.
"""

import asyncio
from typing import Final

from chassis.bus import Bus, OutMessage
from chassis.errors import Unavailable
from chassis.log import get_logger
from chassis.postgres import Pool, transaction
from chassis.retry import TRANSIENT
from services.scheduler.domain.letters import Replay, replay_headers, replay_message_id
from services.scheduler.store import letters

log = get_logger(__name__)

BATCH: Final = 20
# How late a replay is noticed that another replica recorded and did not publish.
IDLE_SECONDS: Final = 2.0
# A stream that is away must not hold up the replays for others.
POSTPONE_SECONDS: Final = 30.0


class Replayer:
    """Publishes what was asked for, as one of the replicas."""

    def __init__(self, *, pool: Pool, bus: Bus) -> None:
        self._pool = pool
        self._bus = bus
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """A replay was recorded just now."""
        self._asked.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Publishes until stopped; what is recorded later waits for the next start."""
        while not stopping.is_set():
            self._asked.clear()
            try:
                if await self._publish_some():
                    continue
            except TRANSIENT as error:
                log.warning("replays.waiting", error=repr(error))
            await self._wait(stopping)

    async def _wait(self, stopping: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(self._asked.wait()), group.create_task(stopping.wait())]
            await asyncio.wait(waits, timeout=IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _publish_some(self) -> bool:
        """Whether more may be due. A bus that does not answer ends the batch."""
        async with transaction(self._pool) as conn:
            claimed = await letters.claim_replays(conn, BATCH)
            for replay in claimed:
                try:
                    await self._bus.publish([_message(replay)])
                except Unavailable as error:
                    log.warning("replay.postponed", subject=replay.subject, error=str(error))
                    await letters.postpone(conn, replay, POSTPONE_SECONDS)
                    return True
                await letters.mark_replayed(conn, replay)
                log.info("replay.published", subject=replay.subject, number=replay.number)
        return len(claimed) == BATCH


def _message(replay: Replay) -> OutMessage:
    return OutMessage(
        subject=replay.subject,
        payload=replay.payload,
        message_id=replay_message_id(replay),
        headers=replay_headers(replay),
    )
