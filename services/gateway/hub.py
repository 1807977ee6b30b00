"""The live fan-out of this process: one subscription per organization, however many sockets.

    bus rt.v1.<org>.>  →  Organization  →  Feed (order, gaps)  →  Channel  →  Mailbox of each socket

Nothing here waits for a socket: its mailbox is bounded and overflows into a goodbye.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final
from uuid import UUID

import nats.errors
from nats.aio.msg import Msg

from chassis import telemetry
from chassis.bus import Bus
from chassis.clock import Clock
from chassis.errors import AppError, Exhausted, Forbidden, Unavailable
from chassis.log import get_logger
from services.gateway.channel import Channel, Listener
from services.gateway.control import Control
from services.gateway.feed import Feed
from services.gateway.history import History
from services.gateway.mailbox import Outgoing
from services.gateway.organization import CONTROL, FLUSH_SECONDS, Organization
from services.gateway.payloads.live import (
    POSITION_LOST,
    SHUTTING_DOWN,
    SLOW_CONSUMER,
    Error,
    Position,
    encode,
    public_channel,
)
from services.gateway.proofs import Proofs
from services.gateway.recovery import CatchUp, fill
from services.gateway.seat import Seat

log = get_logger(__name__)

EVERYWHERE: Final = f"rt.v1.all.{CONTROL}"
MAX_CONNECTIONS_PER_USER: Final = 20
MAX_SUBSCRIPTIONS: Final = 100
# Longest a reconnect to NATS, or the end of a credential, goes unnoticed here.
WATCH_SECONDS: Final = 0.25
# A message may be lost without a trace, on its way between two servers of NATS; well within the ten
# minutes that history reaches back, each channel is asked about once.
CHECK_SECONDS: Final = 240.0
# A client that does not take a frame in this time is not there, or as good as not.
WRITE_SECONDS: Final = 30.0
GOODBYE_PAUSE_SECONDS: Final = 0.005

_sockets = telemetry.meter.create_up_down_counter("timeloom.live.sockets", "{socket}")
_overflows = telemetry.meter.create_counter("timeloom.live.overflows", "{socket}")
_recoveries = telemetry.meter.create_counter("timeloom.live.recoveries", "{subscription}")


class Hub:
    """Every live connection of this process, and what it hears."""

    def __init__(
        self,
        *,
        bus: Bus,
        history: History,
        proofs: Proofs,
        clock: Clock,
        connections_per_person: int = MAX_CONNECTIONS_PER_USER,
    ) -> None:
        self._bus = bus
        self._connections_per_person = connections_per_person
        self._history = history
        self._proofs = proofs
        self._clock = clock
        self._organizations: dict[UUID, Organization] = {}
        self._group: asyncio.TaskGroup | None = None
        self.is_closing = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Watches the bus and the credentials until told to stop and everybody has left."""
        generation = self._bus.generation
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._bus.client.subscribe(EVERYWHERE, cb=self._on_news)
                while self._organizations or not stopping.is_set():
                    if generation != self._bus.generation and await self._is_heard():
                        generation = self._bus.generation
                        self._resume()
                    self.look_after()
                    await _pause(stopping)
        finally:
            self._group = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """As `start`, for what nobody needs to stop."""
        _ = self.start(work)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something beside; it must see to its own errors.

        Raises:
            Unavailable: the hub does not run yet.
        """
        if self._group is None:
            work.close()
            raise Unavailable("Live messages are not available yet.")
        return self._group.create_task(work)

    @property
    def seats(self) -> list[Seat]:
        """Every live connection of this process."""
        return [s for org in self._organizations.values() for s in org.seats_of(None)]

    async def enter(self, seat: Seat) -> None:
        """Takes a seat; whoever does must leave it.

        Raises:
            Exhausted: the person has as many as may be.
            Unavailable: the bus did not answer, or the process is about to end.
        """
        if self.is_closing or self._group is None:
            raise Unavailable("This server takes no live connections right now.")
        organization = self._organization(seat.principal.org_id)
        if len(organization.seats_of(seat.user_id)) >= self._connections_per_person:
            most = self._connections_per_person
            raise Exhausted(f"A person may have {most} live connections.")
        organization.take(seat)
        _sockets.add(1)
        try:
            await organization.open()
        except BaseException:
            self.leave(seat)
            raise

    def leave(self, seat: Seat) -> None:
        """Gives a seat back; the last one of an organization ends its subscription."""
        for name in list(seat.listeners):
            self.unsubscribe(seat, name)
        organization = self._organizations[seat.principal.org_id]
        organization.give_back(seat)
        _sockets.add(-1)
        if seat.mailbox.farewell is SLOW_CONSUMER:
            _overflows.add(1)
        seat.mailbox.close()
        if not organization.seats:
            del self._organizations[organization.org_id]
            with contextlib.suppress(Unavailable):
                self.spawn(organization.close())

    async def subscribe(self, seat: Seat, name: str, since: Position | None) -> None:
        """Adds a channel by its wire name: `subscribed`, what came after `since`, then live.

        Raises:
            Exhausted: the seat has MAX_SUBSCRIPTIONS.
            Forbidden: the channel is not for this person.
            Unavailable: realtime did not answer.
        """
        self.unsubscribe(seat, name)
        if len(seat.listeners) >= MAX_SUBSCRIPTIONS:
            raise Exhausted(f"A connection may have {MAX_SUBSCRIPTIONS} subscriptions.")
        channel = self._channel(self._organizations[seat.principal.org_id], name)
        listener = Listener(channel, seat.mailbox)
        seat.listeners[name] = listener
        channel.listeners[listener] = None
        floor = channel.feed.position
        try:
            page = await self._history.after(seat.principal, name, since)
        except BaseException:
            self.unsubscribe(seat, name)
            raise
        if since is not None:
            _recoveries.add(1, {"recovered": page.is_recovered})
        catch_up = CatchUp(history=self._history, seat=seat, listener=listener, floor=floor)
        if not catch_up.begin(page, since):
            self.spawn(catch_up.run(page))

    def unsubscribe(self, seat: Seat, name: str) -> None:
        """Ends a subscription, if there is one."""
        listener = seat.listeners.pop(name, None)
        if listener is not None:
            channel = listener.channel
            channel.listeners.pop(listener, None)
            if not channel.listeners:
                self._organizations[seat.principal.org_id].channels.pop(name, None)

    async def close(self, *, seconds: float) -> None:
        """Sends everybody away over at most `seconds`, so that they don't all come back at once."""
        self.is_closing = True
        seats = self.seats
        for seat in seats:
            seat.mailbox.dismiss(SHUTTING_DOWN)
            await asyncio.sleep(min(seconds / len(seats), GOODBYE_PAUSE_SECONDS))

    def look_after(self) -> None:
        """What time brings: ends of credentials, stuck writes, and channels to ask about."""
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        for organization in self._organizations.values():
            for seat in organization.seats_of(None):
                if seat.expires_at_us:
                    seat.watch_credential(now_us)
                if 0.0 < seat.mailbox.busy_since < now - WRITE_SECONDS:
                    seat.mailbox.dismiss(SLOW_CONSUMER)
            for feed in organization.feeds:
                if feed.check_at == 0.0:
                    feed.check_at = now + CHECK_SECONDS
                elif feed.check_at <= now:
                    feed.check_at = now + CHECK_SECONDS
                    feed.suspect()

    async def _is_heard(self) -> bool:
        """Whether the server knows our subscriptions again: only then is history complete."""
        try:
            await self._bus.client.flush(FLUSH_SECONDS)
        except (nats.errors.Error, TimeoutError, OSError):
            return False
        return True

    async def _on_news(self, message: Msg) -> None:
        # The one thing said to everybody: the LIVE stream was made anew.
        log.info("live.epoch_changed", subject=message.subject)
        self._resume()

    def _resume(self) -> None:
        for organization in self._organizations.values():
            for feed in organization.feeds:
                feed.suspect()

    def _organization(self, org_id: UUID) -> Organization:
        organization = self._organizations.get(org_id)
        if organization is None:
            organization = Organization(org_id, self._bus)
            control = Control(seats_of=organization.seats_of, recheck=self._recheck)
            doubt = partial(self._doubt, organization, lambda: bool(organization.seats))
            organization.control = Feed(
                CONTROL,
                pass_on=control.pass_on,
                # A revocation may be among what was lost.
                lose=lambda _: self._prove(organization),
                doubt=doubt,
            )
            self._organizations[org_id] = organization
            doubt(organization.control)
        return organization

    def _channel(self, organization: Organization, name: str) -> Channel:
        channel = organization.channels.get(name)
        if channel is None:
            channel = Channel(name)
            doubt = partial(self._doubt, organization, partial(bool, channel.listeners))
            channel.feed = Feed(name, pass_on=channel.pass_on, lose=channel.lose, doubt=doubt)
            organization.channels[name] = channel
        return channel

    def _doubt(self, organization: Organization, is_wanted: Callable[[], bool], feed: Feed) -> None:
        by = organization.service
        self.spawn(fill(feed, history=self._history, by=by, is_wanted=is_wanted))

    def _prove(self, organization: Organization) -> None:
        self.spawn(self._proofs.ask(organization.seats_of, self._recheck))

    def _recheck(self, seat: Seat) -> None:
        for name in seat.listeners:
            self.spawn(self._end_if_forbidden(seat, name))

    async def _end_if_forbidden(self, seat: Seat, name: str) -> None:
        try:
            await self._history.after(seat.principal, name, None)
        except Forbidden:
            self.unsubscribe(seat, name)
            error = Error(
                "forbidden", "Your role does not allow this channel.", public_channel(name)
            )
            seat.mailbox.offer(Outgoing(encode(error)))
        except AppError as error:
            # Whether it is still allowed is not known: the client comes back and asks again.
            log.warning("live.recheck_failed", error=repr(error))
            seat.mailbox.dismiss(POSITION_LOST)


async def _pause(stopping: asyncio.Event) -> None:
    if stopping.is_set():
        # The sockets have yet to leave.
        await asyncio.sleep(WATCH_SECONDS)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WATCH_SECONDS):
            await stopping.wait()
