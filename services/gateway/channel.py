"""One live channel and the sockets on it: each message becomes one frame, shared by all."""

from collections import deque
from typing import Final

from chassis import telemetry
from services.gateway.feed import Arrival, Feed
from services.gateway.mailbox import Mailbox, Outgoing
from services.gateway.payloads.live import (
    Position,
    Subscribed,
    encode,
    encode_message,
    public_channel,
)

# Sends of one message that get a span of their own; a broadcast to thousands would drown a trace.
MAX_TRACED: Final = 8

_sent = telemetry.meter.create_counter("timeloom.live.sent", "{message}")


# What is live meanwhile; what does not fit is fetched again.
MAX_PENDING: Final = 100


class Listener:
    """One socket on one channel. While it catches up, what is live waits in `pending`.

    `is_short` says that something did not fit there: the next page of history has it.
    """

    __slots__ = ("channel", "is_short", "mailbox", "pending", "position")

    def __init__(self, channel: "Channel", mailbox: Mailbox) -> None:
        self.channel = channel
        self.mailbox = mailbox
        self.position: Position | None = None
        self.pending: deque[tuple[Position, Outgoing]] | None = deque()
        self.is_short = False

    def offer(self, position: Position, item: Outgoing) -> None:
        """One frame of the channel, in order."""
        if self.pending is not None:
            if len(self.pending) >= MAX_PENDING:
                self.pending.clear()
                self.is_short = True
            self.pending.append((position, item))
        elif not self._has(position):
            self.position = position
            self.mailbox.offer(item)

    def tell(self, position: Position, *, recovered: bool) -> None:
        """Says where the client stands from now on."""
        self.position = position
        message = Subscribed(public_channel(self.channel.name), str(position), recovered)
        self.mailbox.offer(Outgoing(encode(message), str(position)))

    def replay(self, epoch: str, arrival: Arrival) -> None:
        """One message of the history, for this socket alone."""
        position = Position(epoch, arrival.offset)
        if not self._has(position):
            self.position = position
            self.mailbox.offer(Outgoing(self.channel.frame(position, arrival), str(position)))

    def lose(self, position: Position) -> None:
        """Says that something is missing before `position`, unless this socket was told later."""
        if self.pending is None and not self._has(position):
            self.tell(position, recovered=False)

    def go_live(self) -> None:
        """Ends catching up: what was live meanwhile follows, without what was replayed."""
        pending, self.pending = self.pending or deque(), None
        heard = self.channel.feed.position
        if heard is not None and self.position is not None and heard.epoch != self.position.epoch:
            # The stream was made anew around the time we asked: what lies between is unknown.
            self.tell(heard, recovered=False)
            self.channel.feed.suspect()
            return
        for position, item in pending:
            self.offer(position, item)

    def _has(self, position: Position) -> bool:
        own = self.position
        return own is not None and own.epoch == position.epoch and own.offset >= position.offset


class Channel:
    """The sockets on one channel of one organization."""

    __slots__ = ("feed", "kind", "listeners", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = name.partition(".")[0]
        # In order of arrival, so that nobody is always last.
        self.listeners: dict[Listener, None] = {}
        self.feed: Feed

    def frame(self, position: Position, arrival: Arrival) -> str:
        """A message as clients get it."""
        return encode_message(
            wire=self.name,
            position=position,
            event=arrival.event,
            data_json=arrival.data_json,
            at_us=arrival.at_us,
        )

    def pass_on(self, position: Position, arrival: Arrival) -> None:
        """Serializes once and hands the frame to every socket."""
        text = self.frame(position, arrival)
        item = Outgoing(text, str(position))
        traced = item
        if arrival.traceparent.endswith("01") and telemetry.is_exporting():
            traced = Outgoing(text, str(position), arrival.traceparent, self.kind)
        for number, listener in enumerate(self.listeners):
            listener.offer(position, traced if number < MAX_TRACED else item)
        _sent.add(len(self.listeners))

    def lose(self, position: Position) -> None:
        """Tells every socket that something is missing."""
        for listener in self.listeners:
            listener.lose(position)
