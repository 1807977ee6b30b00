"""SessionsService: answers from stored rows; the tenant comes from the token only."""

import base64
import binascii
from datetime import date, timedelta
from typing import Final
from uuid import UUID

from chassis.clock import Clock
from chassis.errors import Invalid, NotFound
from chassis.identity import current_principal
from chassis.postgres import Connection, Pool, connection
from chassis.rpc import Context, Server
from protos.common.v1.types_pb2 import PageInfo, PageRequest, TimeRange
from protos.sessions.v1 import sessions_pb2 as pb
from protos.sessions.v1.sessions_pb2_grpc import (
    SessionsServiceServicer,
    add_SessionsServiceServicer_to_server,
)
from services.sessions.domain import Slice, ZoneHistory, roll_up
from services.sessions.domain.intervals import Interval
from services.sessions.messages import day_message, session_message, slice_message
from services.sessions.store import blocks, days, members
from services.sessions.store.blocks import Window
from services.sessions.store.timelines import Person

MAX_PAGE: Final = 200
DEFAULT_PAGE: Final = 50
MAX_SLICES: Final = 5000
MAX_DAY_SESSIONS: Final = 2000
MAX_DAYS: Final = 92
MAX_TIMELINE_US: Final = 31 * 86_400_000_000
KINDS: Final = ("", "active", "idle")


class SessionsServicer(SessionsServiceServicer):
    """A person reads their own time; managers and up may name a person of their organization."""

    def __init__(self, *, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    def register(self, server: Server) -> str:
        """Adds this servicer and names its service."""
        add_SessionsServiceServicer_to_server(self, server)
        return "timeloom.sessions.v1.SessionsService"

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        if request.kind not in KINDS:
            raise Invalid.field("kind", "must be active or idle")
        limit = _limit(request.page, DEFAULT_PAGE, MAX_PAGE)
        async with connection(self._pool) as conn:
            person = await _person(conn, request.user_id)
            extent = await self._extent(conn, person, request)
            found = await blocks.list_sessions(
                conn,
                person,
                extent,
                after_us=_after(request.page),
                kind=request.kind,
                category=request.category,
                device=request.device_id,
                limit=limit + 1,
            )
        page = found[:limit]
        return pb.ListSessionsResponse(
            sessions=[session_message(one, str(person[1])) for one in page],
            page=_page_info(page[-1].start_us if len(found) > limit else None),
        )

    async def GetDay(self, request: pb.GetDayRequest, context: Context) -> pb.GetDayResponse:
        async with connection(self._pool) as conn:
            person = await _person(conn, request.user_id)
            zones = await _zones(conn, person)
            day = self._date(request.date, zones)
            stored = await days.load(conn, person, day, day)
            span = zones.span_of(day)
            found = [
                session
                for extent in span
                for session in await blocks.list_sessions(
                    conn, person, extent, limit=MAX_DAY_SESSIONS
                )
            ]
        unique = {session.id: session for session in found}
        return pb.GetDayResponse(
            day=stored.get(day) or day_message(roll_up(day, [], zones), 0),
            sessions=[session_message(one, str(person[1])) for one in unique.values()],
        )

    async def ListDays(self, request: pb.ListDaysRequest, context: Context) -> pb.ListDaysResponse:
        first, last = _parse(request.from_date, "from"), _parse(request.to_date, "to")
        if last < first:
            raise Invalid.field("to", "must not be before from")
        if (last - first).days >= MAX_DAYS:
            raise Invalid.field("to", f"must be at most {MAX_DAYS} days from the first")
        async with connection(self._pool) as conn:
            person = await _person(conn, request.user_id)
            zones = await _zones(conn, person)
            stored = await days.load(conn, person, first, last)
        dates = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        empty = (day_message(roll_up(day, [], zones), 0) for day in dates if day not in stored)
        every = sorted([*stored.values(), *empty], key=lambda day: day.date)
        return pb.ListDaysResponse(days=every)

    async def GetTimeline(
        self, request: pb.GetTimelineRequest, context: Context
    ) -> pb.GetTimelineResponse:
        extent = _range(request.range)
        if extent[1] - extent[0] > MAX_TIMELINE_US:
            raise Invalid.field("to", "must be at most 31 days after from")
        limit = _limit(request.page, MAX_PAGE, MAX_SLICES)
        after = _after(request.page)
        async with connection(self._pool) as conn:
            person = await _person(conn, request.user_id)
            found = await _slices(conn, person, extent, after, limit + 1)
        page = found[:limit]
        return pb.GetTimelineResponse(
            slices=[slice_message(piece) for piece in page],
            page=_page_info(page[-1].start_us if len(found) > limit else None),
        )

    async def _extent(
        self, conn: Connection, person: Person, request: pb.ListSessionsRequest
    ) -> Interval:
        if not request.date:
            return _range(request.range)
        zones = await _zones(conn, person)
        span = zones.span_of(self._date(request.date, zones))
        # A date that clocks skipped has no instants, and so no sessions.
        return (span[0][0], span[-1][1]) if span else (0, 0)

    def _date(self, text: str, zones: ZoneHistory) -> date:
        if text == "today":
            return zones.date_of(self._clock.now_us())
        return _parse(text, "date")


async def _slices(
    conn: Connection, person: Person, extent: Interval, after_us: int, limit: int
) -> list[Slice]:
    start, end = max(extent[0], after_us), extent[1]
    if start >= end:
        return []
    [loaded] = await blocks.load(conn, [Window(person, start, end)])
    pieces = (piece for block in loaded for piece in block.slices)
    inside = (
        p for p in pieces if p.end_us > extent[0] and p.start_us < end and p.start_us > after_us
    )
    return [piece for piece, _ in zip(inside, range(limit), strict=False)]


async def _zones(conn: Connection, person: Person) -> ZoneHistory:
    return (await members.zones_of(conn, [person]))[person]


async def _person(conn: Connection, user_id: str) -> Person:
    principal = current_principal()
    principal.require_scope("read")
    if not user_id or user_id == str(principal.user_id):
        return principal.org_id, principal.user_id
    principal.require_role("manager")
    try:
        person = (principal.org_id, UUID(user_id))
    except ValueError:
        raise Invalid.field("user_id", "must be a UUID") from None
    if not await members.is_member(conn, person):
        raise NotFound("There is no such person in this organization.")
    return person


def _parse(text: str, field: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise Invalid.field(field, "must be a date like 2026-01-31") from None
    if not date(1970, 1, 2) <= day <= date(2999, 12, 31):
        raise Invalid.field(field, "must be between 1970-01-02 and 2999-12-31")
    return day


def _range(wanted: TimeRange) -> Interval:
    if wanted.until_us <= wanted.from_us:
        raise Invalid.field("to", "must be after from")
    return wanted.from_us, wanted.until_us


def _limit(page: PageRequest, default: int, most: int) -> int:
    return min(page.limit or default, most)


def _after(page: PageRequest) -> int:
    """The start of the last item of the page before; before all time on the first page."""
    if not page.cursor:
        return -(1 << 62)
    try:
        return int(base64.urlsafe_b64decode(page.cursor))
    except (ValueError, binascii.Error):
        raise Invalid.field("cursor", "must be the next_cursor of an earlier answer") from None


def _page_info(last_us: int | None) -> PageInfo:
    if last_us is None:
        return PageInfo()
    return PageInfo(next_cursor=base64.urlsafe_b64encode(str(last_us).encode()).decode())
