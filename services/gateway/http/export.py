"""/v1/me/export: everything we hold about a person, written while it is read."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from chassis.clock import MICROSECONDS, Clock
from chassis.identity import Principal
from protos.common.v1.types_pb2 import PageRequest, TimeRange
from protos.ingest.v1.ingest_pb2 import ListEventsRequest
from protos.sessions.v1.sessions_pb2 import ListSessionsRequest
from services.gateway.accounts.devices import Devices
from services.gateway.accounts.keys import Keys
from services.gateway.accounts.people import People
from services.gateway.auth import Caller
from services.gateway.clients import IngestClient, SessionsClient
from services.gateway.payloads.accounts import DeviceReply, KeyReply, MeReply
from services.gateway.payloads.events import EventReply
from services.gateway.payloads.pages import FIRST_ID, LAST_ID, MAX_LIMIT
from services.gateway.payloads.sessions import SessionReply
from services.gateway.payloads.times import instant

Row = TypeVar("Row")

# A page in memory at a time, however much there is.
EVENTS_AT_ONCE: Final = 1_000
DAY_US: Final = 86_400 * MICROSECONDS
_encode: Final = msgspec.json.Encoder().encode


class Export:
    """Reads a person's data page by page."""

    def __init__(
        self,
        *,
        people: People,
        keys: Keys,
        devices: Devices,
        ingest: IngestClient,
        sessions: SessionsClient,
        clock: Clock,
    ) -> None:
        self._people = people
        self._keys = keys
        self._devices = devices
        self._ingest = ingest
        self._sessions = sessions
        self._clock = clock

    async def document(self, caller: Caller) -> AsyncIterator[bytes]:
        """One JSON object in pieces; what can be refused is refused before the first.

        Raises:
            Forbidden: the caller is a key.
        """
        caller.require_person()
        me = MeReply.of(await self._people.me(caller))
        return self._pieces(caller, me)

    async def _pieces(self, caller: Caller, me: MeReply) -> AsyncIterator[bytes]:
        now_us = self._clock.now_us()
        yield b'{"exported_at":' + _encode(instant(now_us))
        yield b',"user":' + _encode(me.user) + b',"organization":' + _encode(me.organization)
        parts: list[tuple[str, AsyncIterator[object]]] = [
            ("devices", self._all_devices(caller)),
            ("api_keys", self._all_keys(caller)),
            ("events", self._all_events(caller.principal)),
            ("sessions", self._all_sessions(caller.principal, now_us + DAY_US)),
        ]
        for name, items in parts:
            yield f',"{name}":['.encode()
            is_first = True
            async for item in items:
                yield _encode(item) if is_first else b"," + _encode(item)
                is_first = False
            yield b"]"
        yield b"}"

    async def _all_devices(self, caller: Caller) -> AsyncIterator[object]:
        async def page(after: UUID) -> Sequence[DeviceReply]:
            found = await self._devices.list_devices(
                caller, user_id=None, after=after, limit=MAX_LIMIT
            )
            return [DeviceReply.of(device) for device in found]

        async for device in _every(page, FIRST_ID, lambda one: one.key):
            yield device

    async def _all_keys(self, caller: Caller) -> AsyncIterator[object]:
        async def page(before: UUID) -> Sequence[KeyReply]:
            found = await self._keys.list_keys(caller, user_id=None, before=before, limit=MAX_LIMIT)
            return [KeyReply.of(key) for key in found]

        async for key in _every(page, LAST_ID, lambda one: one.id):
            yield key

    async def _all_events(self, by: Principal) -> AsyncIterator[object]:
        cursor = ""
        while True:
            wanted = ListEventsRequest(page=PageRequest(cursor=cursor, limit=EVENTS_AT_ONCE))
            found = await self._ingest.list_events(by, wanted)
            keys = {event.device_id for event in found.events}
            names = await self._devices.client_ids(by.org_id, keys)
            for event in found.events:
                yield EventReply.of(event, names[event.device_id])
            cursor = found.page.next_cursor
            if not cursor:
                return

    async def _all_sessions(self, by: Principal, until_us: int) -> AsyncIterator[object]:
        cursor = ""
        everything = TimeRange(from_us=0, until_us=until_us)
        while True:
            page = PageRequest(cursor=cursor, limit=MAX_LIMIT)
            wanted = ListSessionsRequest(range=everything, page=page)
            found = await self._sessions.list_sessions(by, wanted)
            keys = {key for session in found.sessions for key in session.devices}
            names = await self._devices.client_ids(by.org_id, keys)
            for session in found.sessions:
                yield SessionReply.of(session, names)
            cursor = found.page.next_cursor
            if not cursor:
                return


async def _every(
    page: Callable[[UUID], Awaitable[Sequence[Row]]], start: UUID, id_of: Callable[[Row], UUID]
) -> AsyncIterator[Row]:
    """Every row of a list that goes on after the last id seen."""
    place = start
    while rows := await page(place):
        for row in rows:
            yield row
        place = id_of(rows[-1])


@get("/v1/me/export", tags=["accounts"])
async def export_me(caller: NamedDependency[Caller], export: NamedDependency[Export]) -> Stream:
    """Gives everything we hold about you as one JSON document."""
    return Stream(
        await export.document(caller),
        media_type="application/json",
        headers={"content-disposition": "attachment; filename=timeloom-export.json"},
    )


HANDLERS: Final[list[HTTPRouteHandler]] = [export_me]
