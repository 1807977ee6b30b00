"""What people do to events one at a time: replacing and removing them, and whole buckets.

Each is one transaction with its announcement, and safe to repeat.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from chassis.clock import Clock
from chassis.errors import NotFound, Unavailable
from chassis.outbox import Outbox, Transaction
from chassis.retry import TRANSIENT, transient
from services.ingest.domain.events import Event
from services.ingest.domain.heartbeats import bucket_key
from services.ingest.publishers import announce, kept, removed
from services.ingest.store import buckets as bucket_store
from services.ingest.store import events as store
from services.ingest.store.partitions import Months

Result = TypeVar("Result")

# Tombstones of one transaction; a bucket of years is removed in many.
CHUNK: Final = 2000


class Edits:
    """Changes to the events of one person; every method is scoped by organization and person.

    Each may raise Unavailable: not known to be done, doing it again is safe.
    """

    def __init__(self, *, outbox: Outbox, months: Months, clock: Clock) -> None:
        self._outbox = outbox
        self._months = months
        self._clock = clock

    async def replace(self, org_id: UUID, user_id: UUID, wanted: Event) -> Event:
        """Gives a known event the content and times of `wanted`, which has its id; as it is now.

        A moved event leaves a tombstone behind, so that a retry of its first report is known.

        Raises:
            NotFound: the person has no such event in that bucket.
        """

        async def act() -> Event:
            async with self._outbox.begin() as tx:
                await store.lock_buckets(tx.conn, [bucket_key(org_id, wanted)])
                live, revision = await store.find_versions(
                    tx.conn, org_id, user_id, wanted.device_id, wanted.event_id
                )
                if live is None or live.source != wanted.source:
                    raise NotFound("There is no such event in this bucket.")
                event = msgspec.structs.replace(
                    wanted, revision=revision + 1, received_us=live.received_us
                )
                if msgspec.structs.replace(event, revision=live.revision) == live:
                    return live
                if live.start_us != event.start_us:
                    await self._remove(tx, org_id, user_id, event.event_id, event.device_id)
                await store.put(tx.conn, org_id, user_id, event)
                announce(tx, [kept(org_id, user_id, event)])
                return event

        return await _patiently(lambda: self._months.around([wanted.start_us], act))

    async def remove(self, org_id: UUID, user_id: UUID, event_id: UUID) -> bool:
        """Removes what the person has under an id; False when there was nothing."""

        async def act() -> bool:
            async with self._outbox.begin() as tx:
                return await self._remove(tx, org_id, user_id, event_id)

        return await _patiently(act)

    async def _remove(
        self,
        tx: Transaction,
        org_id: UUID,
        user_id: UUID,
        event_id: UUID,
        device_id: UUID | None = None,
    ) -> bool:
        tombstones = await store.remove(
            tx.conn, org_id, user_id, event_id, now_us=self._clock.now_us(), device_id=device_id
        )
        announce(tx, removed(org_id, user_id, tombstones))
        return bool(tombstones)

    async def remove_bucket(self, org_id: UUID, user_id: UUID, name: str) -> int:
        """Removes a bucket's events, then the bucket; how many events.

        Whatever interrupts it, doing it again removes the rest, because the bucket goes last.

        Raises:
            NotFound: the person has no such bucket.
        """
        total, count = 0, CHUNK
        while count == CHUNK:
            count = await _patiently(lambda: self._remove_chunk(org_id, user_id, name))
            total += count
        return total

    async def _remove_chunk(self, org_id: UUID, user_id: UUID, name: str) -> int:
        async with self._outbox.begin() as tx:
            device_id = await bucket_store.find(tx.conn, org_id, user_id, name)
            if device_id is None:
                raise NotFound("There is no such bucket.")
            now_us = self._clock.now_us()
            tombstones = await store.remove_of_bucket(
                tx.conn, org_id, user_id, device_id, name, now_us=now_us, limit=CHUNK
            )
            announce(tx, removed(org_id, user_id, tombstones))
            if len(tombstones) < CHUNK:
                await bucket_store.delete(tx.conn, org_id, user_id, name)
            return len(tombstones)


async def _patiently(act: Callable[[], Awaitable[Result]]) -> Result:
    """A few tries: an edit and a group of reports that meet may lock each other out."""

    async def once() -> Result:
        return await act()

    try:
        result: Result = await transient()(once)
    except TRANSIENT as error:
        raise Unavailable("The events could not be changed just now.") from error
    return result
