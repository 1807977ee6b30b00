"""Presence leases in Valkey. Every change is one Lua script; time is the server's.

The keys of an organization and the index of its shard share a hash tag, so scripts stay atomic on
a cluster and organizations still spread over it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chassis.errors import Unavailable
from chassis.valkey import Script
from services.realtime.domain.presence import STATES, Change, Lease, Presence
from services.realtime.settings import Settings

# Changing this, or the shape of records, needs another key prefix; presence then starts over.
SHARDS: Final = 16
# Bounds of one script call, so that none holds the server for more than a few milliseconds.
LEASES_PER_CALL: Final = 500
DUE_PER_CALL: Final = 200
CHANGES_PER_CALL: Final = 500
ORGS_PER_LOOK: Final = 100
MAX_LISTED: Final = 10_000
# How long an announcement may take before another replica is handed it too.
ANNOUNCE_MS: Final = 5000
_LUA: Final = Path(__file__).parent / "lua"
_EMPTY_STORE: Final = "*"


class _Record(msgspec.Struct):
    """A person as lua/settle.lua packs them."""

    said: int
    since: int
    # An empty table of Lua is packed as a list.
    conns: dict[str, tuple[int, int]] | list[None]

    def presence(self, user_id: UUID, now_ms: int) -> Presence:
        ends = self.conns.values() if isinstance(self.conns, dict) else ()
        count = sum(ends_ms > now_ms for _, ends_ms in ends)
        return Presence(user_id, STATES[self.said], count, self.since)


_decode: Final = msgspec.msgpack.Decoder(_Record).decode


def _record(packed: bytes | str) -> _Record:
    # The client's types allow text, which this client never answers with.
    return _decode(packed.encode() if isinstance(packed, str) else packed)


class Settled(NamedTuple):
    """What one call brought about; `reaped` leases ended without a goodbye."""

    reaped: int
    changes: list[Change]


class PresenceStore:
    """Leases, people and what is to be announced about them.

    Every method raises Unavailable when Valkey does not answer.
    """

    def __init__(
        self, client: Redis, settings: Settings, *, announce_ms: int = ANNOUNCE_MS
    ) -> None:
        self._client = client
        self._announce_ms = announce_ms
        self._lease_ms = round(settings.lease_seconds * 1000)
        self._leave_ms = round(settings.leave_seconds * 1000)
        self._settle = Script(client, _LUA / "settle.lua")
        self._told = Script(client, _LUA / "told.lua")
        self._due = Script(client, _LUA / "due.lua")

    async def settle(
        self, org_id: UUID, alive: Sequence[Lease] = (), closed: Sequence[Lease] = ()
    ) -> Settled:
        """Takes leases of one organization in, ends those that are over, says what changed.

        Each change is handed to one caller, and again to someone after `announce_ms` unless `told`.
        """
        reaped, changes = 0, []
        for some_alive, some_closed in _calls(alive, closed):
            args: list[Any] = [org_id, self._lease_ms, self._leave_ms, self._announce_ms]
            args += [DUE_PER_CALL, CHANGES_PER_CALL, len(some_alive)]
            for lease in some_alive:
                args += (lease.user_id, lease.connection_id, STATES.index(lease.state))
            for lease in some_closed:
                args += (lease.user_id, lease.connection_id)
            keys = [*_keys(org_id, "people", "due", "news", "epoch"), _index(_shard(org_id))]
            answer = await self._settle(keys=keys, args=_texts(args))
            reaped += answer[0]
            changes += [_change(org_id, *row) for row in _fours(answer[1:])]
        return Settled(reaped, changes)

    async def told(self, org_id: UUID, changes: Iterable[Change]) -> None:
        """Forgets changes that were announced; newer ones of the same people stay."""
        args: list[Any] = []
        for change in changes:
            who = change.presence.user_id if change.presence else _EMPTY_STORE
            args += (who, change.since_us)
        await self._told(keys=_keys(org_id, "people", "news", "epoch"), args=_texts(args))

    async def people(self, org_id: UUID, user_id: UUID | None = None) -> list[Presence]:
        """Who is here, by id, at most MAX_LISTED; or only `user_id`, if here."""
        (key,) = _keys(org_id, "people")
        found: Mapping[bytes | str, bytes | str]
        try:
            seconds, microseconds = await self._client.time()
            if user_id is None:
                # Unpacking thousands of records in Lua would hold the server for everyone.
                found = await self._client.hgetall(key)
            else:
                packed = await self._client.hget(key, str(user_id))
                found = {str(user_id): packed} if packed else {}
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable("The presence store did not answer.") from error
        now_ms = seconds * 1000 + microseconds // 1000
        people = sorted(
            ((UUID(_text(user)), _record(packed)) for user, packed in found.items()),
            key=itemgetter(0),
        )
        return [
            record.presence(user, now_ms) for user, record in people[:MAX_LISTED] if record.said
        ]

    async def due(self, shard: int) -> list[UUID]:
        """Organizations of a shard whose time has come, at most ORGS_PER_LOOK."""
        orgs = await self._due(keys=[_index(shard)], args=[ORGS_PER_LOOK])
        return [UUID(_text(org)) for org in orgs]

    async def check(self) -> None:
        """For readiness."""
        try:
            await self._client.ping()
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable("The presence store did not answer.") from error


def _calls(
    alive: Sequence[Lease], closed: Sequence[Lease]
) -> Iterator[tuple[Sequence[Lease], Sequence[Lease]]]:
    """Bounded parts, at least one; goodbyes go last, after a lease of the same connection."""
    for start in range(0, len(alive), LEASES_PER_CALL):
        yield alive[start : start + LEASES_PER_CALL], ()
    for start in range(0, len(closed), LEASES_PER_CALL):
        yield (), closed[start : start + LEASES_PER_CALL]
    if not alive and not closed:
        yield (), ()


def _shard(org_id: UUID) -> int:
    return org_id.int % SHARDS


def _index(shard: int) -> str:
    return f"p1:{{{shard}}}:index"


def _keys(org_id: UUID, *names: str) -> list[str]:
    return [f"p1:{{{_shard(org_id)}}}:{org_id}:{name}" for name in names]


def _texts(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in values]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _fours(flat: Sequence[Any]) -> Iterator[tuple[bytes, int, int, int]]:
    values = iter(flat)
    while row := tuple(islice(values, 4)):
        user, rank, connections, since_us = row
        yield user, rank, connections, since_us


def _presence(user: bytes, rank: int, connections: int, since_us: int) -> Presence:
    return Presence(UUID(_text(user)), STATES[rank], connections, since_us)


def _change(org_id: UUID, user: bytes, rank: int, connections: int, since_us: int) -> Change:
    if _text(user) == _EMPTY_STORE:
        return Change(org_id, None, since_us)
    return Change(org_id, _presence(user, rank, connections, since_us), since_us)
