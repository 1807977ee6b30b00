"""What waits for one socket: bounded, and never in the way of anybody else."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from services.gateway.payloads.live import GONE, SLOW_CONSUMER, Farewell

# A socket this far behind does not keep up; it is closed and resumes from its position.
MAX_MESSAGES: Final = 256
MAX_CHARACTERS: Final = 1024 * 1024


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One frame, shared by every socket that gets it.

    `position` is empty for frames without one. `parent` is the traceparent that the send
    continues, where somebody looks; `kind` is the kind of channel, for that span.
    """

    text: str
    position: str = ""
    parent: str = ""
    kind: str = ""


class Mailbox:
    """A queue of frames and, at the end, one farewell. `wake` is called when there is news.

    `busy_since` is when the write under way began (monotonic), 0 when there is none.
    """

    __slots__ = ("_drained", "_size", "_waiting", "_wake", "busy_since", "farewell")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        # Made when needed: most sockets have nothing waiting, and an empty deque takes 700 bytes.
        self._waiting: deque[Outgoing] | None = None
        self._size = 0
        self._drained: asyncio.Event | None = None
        self.busy_since = 0.0
        self.farewell: Farewell | None = None

    @property
    def has_news(self) -> bool:
        """Whether there is a frame or a farewell to send."""
        return self._waiting is not None or self.farewell is not None

    @property
    def is_half_full(self) -> bool:
        """Whether so many characters wait that who can should wait too."""
        return self._size > MAX_CHARACTERS // 2

    def offer(self, item: Outgoing) -> None:
        """Adds a frame; on overflow the socket is dismissed as a slow consumer instead."""
        if self.farewell is not None:
            return
        if self._waiting is None:
            self._waiting = deque()
        if len(self._waiting) >= MAX_MESSAGES or self._size + len(item.text) > MAX_CHARACTERS:
            self.dismiss(SLOW_CONSUMER)
            return
        self._waiting.append(item)
        self._size += len(item.text)
        self._wake()

    def dismiss(self, farewell: Farewell) -> None:
        """Ends the socket: what waits is dropped, it is resumed or told when the client returns."""
        if self.farewell is None:
            self.farewell = farewell
            self._forget()
            self._wake()

    def close(self) -> None:
        """The socket is gone: nothing is taken any more, and nobody is woken."""
        self.farewell = self.farewell or GONE
        self._forget()

    def take(self) -> Outgoing | None:
        """The oldest frame; None when nothing waits."""
        if self._waiting is None:
            return None
        item = self._waiting.popleft()
        self._size -= len(item.text)
        if not self._waiting:
            self._forget()
        return item

    async def drained(self) -> None:
        """Returns when nothing waits or the socket is dismissed."""
        while self._waiting is not None:
            if self._drained is None:
                self._drained = asyncio.Event()
            await self._drained.wait()

    def _forget(self) -> None:
        self._waiting = None
        self._size = 0
        if self._drained is not None:
            self._drained.set()
            self._drained = None
