"""Presence from lease to announcement: what gateways refresh, what ends, and who must be told."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from chassis import telemetry
from chassis.clock import Clock
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.log import get_logger
from chassis.retry import TRANSIENT
from services.realtime.domain.channels import ORG
from services.realtime.domain.live import LiveEvent, Outgoing, PresenceReload
from services.realtime.domain.presence import Change, Lease, Presence
from services.realtime.publishers import LivePublisher, PresencePublisher
from services.realtime.store import SHARDS, PresenceStore

log = get_logger(__name__)

# Organizations settled side by side; more would only queue in Valkey.
SIDE_BY_SIDE: Final = 8
# Announcements waiting in this process. When full, the store hands them out again later.
MAX_WAITING: Final = 10_000
MAX_BATCH: Final = 500
# One look may find a whole gateway gone; beyond this the next look goes on.
ROUNDS_PER_LOOK: Final = 20
# People remembered for when the store is away; the organizations asked about longest ago go first.
MAX_REMEMBERED: Final = 50_000
RETRY_SECONDS: Final = 0.5
WAKE_SECONDS: Final = 0.25

_reaped = telemetry.meter.create_counter("timeloom.presence.reaped", "{lease}")


class Roll(NamedTuple):
    """Who is here, by id. `is_stale`: from memory, because the store is away."""

    presence: list[Presence]
    is_stale: bool


class LastKnown:
    """What this process last heard about organizations; bounded by people."""

    def __init__(self, most_people: int = MAX_REMEMBERED) -> None:
        self._most = most_people
        self._orgs: OrderedDict[UUID, dict[UUID, Presence]] = OrderedDict()
        self._count = 0

    def replace(self, org_id: UUID, presence: Iterable[Presence]) -> None:
        """Everyone of an organization."""
        self._count -= len(self._orgs.pop(org_id, {}))
        self._orgs[org_id] = {one.user_id: one for one in presence}
        self._count += len(self._orgs[org_id])
        self._shrink()

    def update(self, org_id: UUID, presence: Presence) -> None:
        """One person; an older state than the known one is ignored."""
        people = self._orgs.setdefault(org_id, {})
        known = people.get(presence.user_id)
        if known and known.since_us > presence.since_us:
            return
        if presence.state == "offline":
            self._count -= people.pop(presence.user_id, None) is not None
        else:
            people[presence.user_id] = presence
            self._count += known is None
        self._shrink()

    def people(self, org_id: UUID, user_id: UUID | None) -> list[Presence]:
        """By id."""
        people = self._orgs.get(org_id, {})
        return [people[key] for key in sorted(people) if user_id in {None, key}]

    def _shrink(self) -> None:
        while self._count > self._most and len(self._orgs) > 1:
            _, people = self._orgs.popitem(last=False)
            self._count -= len(people)


class PresenceKeeper:
    """Keeps the leases of every gateway and tells the suite what they add up to."""

    def __init__(
        self,
        *,
        store: PresenceStore,
        publisher: PresencePublisher,
        live: LivePublisher,
        clock: Clock,
        reap_seconds: float,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._live = live
        self._clock = clock
        self._reap_seconds = reap_seconds
        self._known = LastKnown()
        self._waiting: OrderedDict[tuple[UUID, UUID | None], Change] = OrderedDict()
        self._arrived = asyncio.Event()

    async def refresh(self, alive: Sequence[Lease], closed: Sequence[Lease]) -> None:
        """Takes in the leases of one gateway; idempotent.

        Raises:
            Unavailable: the store did not answer; some organizations may be done.
        """
        by_org: dict[UUID, tuple[list[Lease], list[Lease]]] = {}
        for lease in alive:
            by_org.setdefault(lease.org_id, ([], []))[0].append(lease)
        for lease in closed:
            by_org.setdefault(lease.org_id, ([], []))[1].append(lease)
        orgs = list(by_org)
        for start in range(0, len(orgs), SIDE_BY_SIDE):
            await self._settle_all({org: by_org[org] for org in orgs[start : start + SIDE_BY_SIDE]})

    async def _settle_all(self, by_org: dict[UUID, tuple[list[Lease], list[Lease]]]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for org, (alive, closed) in by_org.items():
                    group.create_task(self._settle(org, alive, closed))
        except ExceptionGroup as several:
            # One is enough to say; a group would be unknown to callers. (`except*` would wrap it
            # again before Python 3.11.4.)
            away, others = several.split(Unavailable)
            if away is None or others is not None:
                raise
            raise Unavailable(str(away.exceptions[0])) from several

    async def _settle(
        self, org_id: UUID, alive: Sequence[Lease] = (), closed: Sequence[Lease] = ()
    ) -> None:
        settled = await self._store.settle(org_id, alive, closed)
        if settled.reaped:
            _reaped.add(settled.reaped)
        for change in settled.changes:
            if change.presence:
                self._known.update(org_id, change.presence)
            key = (org_id, change.presence.user_id if change.presence else None)
            if key in self._waiting or len(self._waiting) < MAX_WAITING:
                self._waiting[key] = change
        if settled.changes:
            self._arrived.set()

    async def roll(self, org_id: UUID, user_id: UUID | None = None) -> Roll:
        """Who is here, or whether `user_id` is; never raises for a store that is away."""
        try:
            presence = await self._store.people(org_id, user_id)
        except Unavailable:
            return Roll(self._known.people(org_id, user_id), is_stale=True)
        if user_id is None:
            self._known.replace(org_id, presence)
        return Roll(presence, is_stale=False)

    async def reap(self, stopping: asyncio.Event) -> None:
        """Ends leases that were not renewed, and hands out what was never announced."""
        while not stopping.is_set():
            try:
                for shard in range(SHARDS):
                    await self._reap_shard(shard)
            except TRANSIENT as error:
                log.warning("presence.store_away", error=repr(error))
            # Replicas that look at different moments share the work.
            pause = self._reap_seconds * (1 + new_id().int % 1000 / 667)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stopping.wait()

    async def _reap_shard(self, shard: int) -> None:
        for _ in range(ROUNDS_PER_LOOK):
            due = await self._store.due(shard)
            if not due:
                return
            for org_id in due:
                await self._settle(org_id)

    async def announce(self, stopping: asyncio.Event) -> None:
        """Publishes changes until stopped and none waits, or one try after the stop failed."""
        while not (stopping.is_set() and not self._waiting):
            if not self._waiting:
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WAKE_SECONDS):
                        await self._arrived.wait()
                continue
            batch = list(self._waiting.items())[:MAX_BATCH]
            changes = [change for _, change in batch]
            try:
                await self._publisher.publish(changes)
                await self._live.publish([_reload(one) for one in changes if not one.presence])
            except TRANSIENT as error:
                # What is given up here is handed out again by the store.
                log.warning("presence.announce_waiting", error=repr(error))
                if stopping.is_set():
                    return
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for key, change in batch:
                if self._waiting.get(key) is change:
                    del self._waiting[key]
            await self._forget(changes)

    async def _forget(self, changes: Sequence[Change]) -> None:
        by_org: dict[UUID, list[Change]] = {}
        for change in changes:
            by_org.setdefault(change.org_id, []).append(change)
        try:
            for org_id, told in by_org.items():
                await self._store.told(org_id, told)
        except Unavailable as error:
            # Said once more when the store is back; who listens drops the repeat.
            log.warning("presence.store_away", error=repr(error))


def _reload(change: Change) -> Outgoing:
    event = LiveEvent(change.org_id, ORG, "presence.changed", PresenceReload())
    return Outgoing(event, f"presence:{change.org_id}:{change.since_us}", "")
