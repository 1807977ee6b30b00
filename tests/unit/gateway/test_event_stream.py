"""Server-sent events, spoken to as an ASGI server would."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from chassis.clock import ManualClock
from chassis.errors import Forbidden, Invalid
from chassis.identity import Principal
from services.gateway import event_stream
from services.gateway.auth import Caller
from services.gateway.clients import PresenceClient
from services.gateway.event_stream import EventStream
from services.gateway.hub import Hub
from services.gateway.leases import Leases
from services.gateway.payloads.live import EXPIRED, Position
from tests.support.eventually import eventually
from tests.unit.gateway.live_world import ADA, ORG, LiveWorld, settled
from tests.unit.gateway.test_websocket import Presences

ME = f"user.{ADA}"


class Reader:
    """One EventSource."""

    def __init__(self, hub: Hub, *, role: str = "owner") -> None:
        principal = Principal(org_id=ORG, user_id=ADA, role=role)
        leases = Leases(
            presence=cast("PresenceClient", Presences()),
            seats=lambda: hub.seats,
            clock=ManualClock(),
        )
        caller = Caller(principal=principal, is_person=True, expires_at_us=0)
        self.stream = EventStream(hub=hub, leases=leases, caller=caller)
        self.gone = asyncio.Event()
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.is_over = False
        self.running: asyncio.Task[None] | None = None

    async def open(self, channel: str = "me", since: Position | None = None) -> "Reader":
        await self.stream.open(channel, since)
        self.running = asyncio.create_task(self.stream({}, self._receive, self._send))
        await settled()
        return self

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.headers = dict(message["headers"])
            return
        self.body += message["body"]
        if not message["more_body"]:
            self.is_over = True
            self.gone.set()

    async def close(self) -> None:
        self.gone.set()
        if self.running is not None:
            async with asyncio.timeout(1):
                await self.running

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Ids and frames."""
        found = []
        for block in self.body.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "data" in lines:
                found.append((lines.get("id", ""), msgspec.json.decode(lines["data"])))
        return found


async def test_events_are_the_frames_of_the_live_protocol_with_their_position_as_id(
    hub: Hub, world: LiveWorld
) -> None:
    reader = await Reader(hub).open()
    await world.publish(ME, {"n": "line\nbreak"})
    await settled()
    assert reader.headers[b"content-type"].startswith(b"text/event-stream")
    assert reader.headers[b"x-accel-buffering"] == b"no"
    assert [(id_, frame["type"]) for id_, frame in reader.events] == [
        ("e1:0", "subscribed"),
        ("e1:1", "message"),
    ]
    assert reader.events[1][1]["data"] == {"n": "line\nbreak"}
    await reader.close()


async def test_it_resumes_after_the_last_id(hub: Hub, world: LiveWorld) -> None:
    for n in range(1, 4):
        await world.publish(ME, n)
    reader = await Reader(hub).open(since=Position("e1", 1))
    assert [frame.get("data") for _, frame in reader.events] == [None, 2, 3]
    await reader.close()


async def test_a_reader_that_leaves_is_forgotten_even_before_its_first_event(hub: Hub) -> None:
    reader = Reader(hub)
    reader.gone.set()
    await reader.open()
    await reader.close()
    assert hub.seats == []


async def test_a_channel_that_is_refused_leaves_no_seat_taken(hub: Hub) -> None:
    with pytest.raises(Forbidden):
        await Reader(hub, role="member").open("org")
    with pytest.raises(Invalid):
        await Reader(hub).open("ctl")
    assert hub.seats == []


async def test_who_is_sent_away_hears_why_and_the_stream_ends(hub: Hub) -> None:
    reader = await Reader(hub).open()
    hub.seats[0].mailbox.dismiss(EXPIRED)
    await settled()
    assert reader.events[-1] == ("", {"type": "bye", "code": 3005, "reconnect": True})
    assert reader.is_over
    await reader.close()
    assert hub.seats == []


async def test_silence_is_broken_by_comments(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.01)
    reader = await Reader(hub).open()
    await eventually(lambda: reader.body.count(event_stream.HEARTBEAT) >= 2)
    await reader.close()
