"""Presence is told in batches, and goodbyes survive a realtime that is away."""

import asyncio
from typing import cast
from uuid import UUID

import pytest

from chassis.clock import ManualClock
from chassis.errors import Unavailable
from chassis.identity import Principal
from protos.realtime.v1.realtime_pb2 import RefreshLeasesRequest, RefreshLeasesResponse
from services.gateway.auth import Caller
from services.gateway.clients import GATEWAY, PresenceClient
from services.gateway.leases import MAX_LEASES_A_CALL, REFRESH_SECONDS, Leases
from services.gateway.mailbox import Mailbox
from services.gateway.seat import Seat
from tests.support.eventually import eventually


class Realtime:
    """Keeps the connections it knows by what it is told."""

    def __init__(self) -> None:
        self.is_away = False
        self.calls: list[RefreshLeasesRequest] = []
        self.connected: dict[str, str] = {}

    async def refresh_leases(
        self, by: Principal, request: RefreshLeasesRequest
    ) -> RefreshLeasesResponse:
        assert by == GATEWAY
        if self.is_away:
            raise Unavailable
        assert max(len(request.leases), len(request.closed)) <= MAX_LEASES_A_CALL
        self.calls.append(request)
        self.connected |= {lease.connection_id: lease.state for lease in request.leases}
        for lease in request.closed:
            self.connected.pop(lease.connection_id, None)
        return RefreshLeasesResponse(lease_seconds=75)


def seat(number: int) -> Seat:
    principal = Principal(org_id=UUID(int=1), user_id=UUID(int=number), role="member")
    caller = Caller(principal=principal, is_person=True, expires_at_us=0)
    return Seat(caller=caller, mailbox=Mailbox(lambda: None), connection_id=f"c{number}")


@pytest.fixture
def realtime() -> Realtime:
    return Realtime()


@pytest.fixture
def seats() -> list[Seat]:
    return []


@pytest.fixture
def leases(realtime: Realtime, seats: list[Seat]) -> Leases:
    return Leases(
        presence=cast("PresenceClient", realtime), seats=lambda: seats, clock=ManualClock()
    )


async def test_joins_changes_and_leaves_travel_together(leases: Leases, realtime: Realtime) -> None:
    first, second = seat(1), seat(2)
    leases.changed(first)
    leases.changed(second)
    second.state = "away"
    leases.changed(second)
    await leases.refresh(is_whole=False)
    assert realtime.connected == {"c1": "online", "c2": "away"}
    assert len(realtime.calls) == 1
    leases.left(first)
    await leases.refresh(is_whole=False)
    assert realtime.connected == {"c2": "away"}


async def test_who_comes_and_goes_between_two_looks_leaves_nothing_behind(
    leases: Leases, realtime: Realtime
) -> None:
    leases.changed(seat(1))
    leases.left(seat(1))
    await leases.refresh(is_whole=False)
    assert realtime.connected == {}


async def test_everybody_is_told_in_calls_of_five_thousand(
    leases: Leases, realtime: Realtime, seats: list[Seat]
) -> None:
    seats += [seat(number) for number in range(2 * MAX_LEASES_A_CALL + 1)]
    await leases.refresh(is_whole=True)
    assert len(realtime.calls) == 3
    assert len(realtime.connected) == len(seats)


async def test_goodbyes_wait_for_realtime_to_come_back(
    leases: Leases, realtime: Realtime, seats: list[Seat]
) -> None:
    seats += [seat(1), seat(2)]
    await leases.refresh(is_whole=True)
    realtime.is_away = True
    leases.left(seats.pop())
    with pytest.raises(Unavailable):
        await leases.refresh(is_whole=False)
    realtime.is_away = False
    await leases.refresh(is_whole=True)
    assert realtime.connected == {"c1": "online"}


async def test_the_loop_tells_news_soon_and_everything_in_time_and_ends_with_the_goodbyes(
    realtime: Realtime, seats: list[Seat]
) -> None:
    clock = ManualClock()
    leases = Leases(presence=cast("PresenceClient", realtime), seats=lambda: seats, clock=clock)
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(leases.run(stopping))
        seats.append(seat(1))
        leases.changed(seats[0])
        await eventually(lambda: realtime.connected)
        realtime.connected.clear()
        clock.advance(REFRESH_SECONDS)
        await eventually(lambda: realtime.connected)
        stopping.set()
        assert not running.done()
        leases.left(seats.pop())
    assert realtime.connected == {}
