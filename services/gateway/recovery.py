"""Making good what was missed: for a whole channel after trouble, for one socket as it subscribes."""

import asyncio
from collections.abc import Callable
from typing import Final

from chassis.errors import Unavailable
from chassis.identity import Principal
from chassis.log import get_logger
from services.gateway.channel import Listener
from services.gateway.feed import Feed
from services.gateway.history import History, HistoryPage
from services.gateway.payloads.live import POSITION_LOST, Position
from services.gateway.seat import Seat

log = get_logger(__name__)

FIRST_WAIT_SECONDS: Final = 0.1
MAX_WAIT_SECONDS: Final = 5.0
# A socket that does not take a page of its replay in this time does not keep up.
PAGE_SECONDS: Final = 30.0


async def fill(
    feed: Feed, *, history: History, by: Principal, is_wanted: Callable[[], bool]
) -> None:
    """Fetches what the feed may have missed, however long realtime is away, while it is wanted."""
    wait = FIRST_WAIT_SECONDS
    while is_wanted():
        try:
            page = await history.after(by, feed.name, feed.position)
        except Exception as error:  # noqa: BLE001  # nobody else would fill this gap
            log.warning("live.history_failed", channel=feed.name, error=repr(error))
            await asyncio.sleep(wait)
            wait = min(wait * 2, MAX_WAIT_SECONDS)
            continue
        if page.is_recovered:
            feed.recover(page.messages, page.position)
        else:
            feed.give_up(page.position)
        # The sockets take what they got before they get more.
        await asyncio.sleep(0)
        if not (page.is_recovered and page.has_more):
            feed.go_live()
            return


class CatchUp:
    """Brings one listener from where the client stood to live, without gap or repeat.

    `floor` is where the feed stood when the listener joined it: what came later is in `pending`,
    so history must reach at least that far. A replica of the stream may be behind it.
    """

    def __init__(
        self, *, history: History, seat: Seat, listener: Listener, floor: Position | None
    ) -> None:
        self._history = history
        self._seat = seat
        self._listener = listener
        self._floor = floor

    def begin(self, page: HistoryPage, since: Position | None) -> bool:
        """Says `subscribed` after the first answer; False when `run` must follow."""
        position = page.position
        if since is not None and page.is_recovered and (page.messages or self._is_short(position)):
            position = since
        elif self._floor is not None and self._is_short(position):
            position = self._floor
        self._listener.tell(position, recovered=page.is_recovered)
        if page.messages or page.has_more or self._is_short(position):
            return False
        self._finish()
        return True

    async def run(self, page: HistoryPage) -> None:
        """Replays, page by page, then goes live; a client that can't be served is sent back."""
        listener, mailbox = self._listener, self._seat.mailbox
        try:
            while True:
                await self._replay(page)
                await self._taken()
                if self._is_over:
                    return
                if not (page.has_more or listener.is_short or self._is_short(listener.position)):
                    break
                if not page.messages:
                    await asyncio.sleep(FIRST_WAIT_SECONDS)
                listener.is_short = False
                page = await self._history.after(
                    self._seat.principal, listener.channel.name, listener.position
                )
        except Exception as error:  # noqa: BLE001  # the client resumes from its position
            log.warning("live.replay_failed", channel=listener.channel.name, error=repr(error))
            mailbox.dismiss(POSITION_LOST)
        else:
            self._finish()

    async def _replay(self, page: HistoryPage) -> None:
        listener = self._listener
        if not page.is_recovered:
            # Said once already when it was the first page.
            if listener.position != page.position:
                listener.tell(page.position, recovered=False)
            return
        for message in page.messages:
            if self._seat.mailbox.is_half_full:
                # A page of large messages is more than a mailbox takes at once.
                await self._taken()
            if self._is_over:
                return
            listener.replay(page.position.epoch, message)
        if listener.position is None or page.position.offset > listener.position.offset:
            listener.position = page.position

    async def _taken(self) -> None:
        """Waits for the socket; raises TimeoutError when it does not keep up."""
        async with asyncio.timeout(PAGE_SECONDS):
            await self._seat.mailbox.drained()

    @property
    def _is_over(self) -> bool:
        """Whether the socket, or its subscription, ended meanwhile."""
        listener = self._listener
        return bool(self._seat.mailbox.farewell) or listener not in listener.channel.listeners

    def _is_short(self, position: Position | None) -> bool:
        floor = self._floor
        return (
            floor is not None
            and position is not None
            and floor.epoch == position.epoch
            and position.offset < floor.offset
        )

    def _finish(self) -> None:
        listener = self._listener
        if listener.position is None:
            raise Unavailable("The position of the channel is not known.")
        listener.channel.feed.start(listener.position)
        listener.go_live()
