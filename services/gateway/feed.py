"""One live channel in order: what arrives is passed on once, and what did not arrive is noticed.

Core NATS delivers at most once, so each message says which one came before it on its subject
(services/realtime/README.md, "Noticing loss while live"). This module decides; hub.py fetches.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from services.gateway.payloads.live import Position

# While a gap is being filled; what does not fit is fetched again afterwards. Small enough that
# passing on all of it at once fits into a mailbox.
MAX_HELD: Final = 100


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One live message. `previous` is the offset before it on its subject, 0 when none is kept."""

    offset: int
    previous: int
    event: str
    data_json: bytes
    at_us: int
    traceparent: str = ""


PassOn = Callable[[Position, Arrival], None]
Lose = Callable[[Position], None]


class Feed:
    """One channel of one organization, as heard by this process.

    It holds what arrives until `start` or a recovery says where it stands. `pass_on` gets each
    message once, in order; `lose` gets the position from which live goes on after an
    unrecoverable gap; `doubt` is called when somebody must fetch what may be missing.
    """

    __slots__ = (
        "_again",
        "_doubt",
        "_held",
        "_lose",
        "_pass_on",
        "check_at",
        "is_waiting",
        "name",
        "position",
    )

    def __init__(
        self, name: str, *, pass_on: PassOn, lose: Lose, doubt: Callable[["Feed"], None]
    ) -> None:
        self.name = name
        self.position: Position | None = None
        self.is_waiting = True
        self._pass_on = pass_on
        self._lose = lose
        self._doubt = doubt
        self._held: list[Arrival] = []
        # When to ask whether something was lost that nothing followed; kept by the hub.
        self.check_at = 0.0
        self._again = False

    def arrive(self, arrival: Arrival) -> None:
        """One message from the bus."""
        if self.is_waiting or self.position is None:
            self._hold(arrival)
        elif self.position.offset < arrival.offset and arrival.previous <= self.position.offset:
            self._deliver(arrival)
        else:
            # A gap; or a repeat, which may also be the same offset in another life of the stream.
            self._hold(arrival)
            self.suspect()

    def suspect(self) -> None:
        """Something may be missing; while a recovery runs, another one will follow it."""
        if self.is_waiting:
            self._again = True
        else:
            self.is_waiting = True
            self._doubt(self)

    def start(self, position: Position) -> None:
        """Goes live at a position that somebody learned; only the first call counts."""
        if self.position is None:
            self._forget_held()
            self.position = position
            self.go_live()

    def recover(self, messages: list[Arrival], position: Position) -> None:
        """Fills a gap: `messages` in order, up to `position` of the same epoch."""
        for message in messages:
            if self.position is None or message.offset > self.position.offset:
                self._deliver(message, position.epoch)
        # A replica that is behind may speak of less than we heard.
        if self.position is None or position.offset > self.position.offset:
            self.position = position

    def give_up(self, position: Position) -> None:
        """The gap can't be filled: live goes on at `position`."""
        self._forget_held()
        self.position = position
        self._lose(position)

    def go_live(self) -> None:
        """Passes on what was held, unless there is reason to ask again."""
        again, self._again = self._again, False
        held, self._held = self._held, []
        self.is_waiting = False
        if again:
            self.suspect()
        for arrival in held:
            # What a recovery brought already is no reason for another one.
            if self.is_waiting or (self.position and arrival.offset > self.position.offset):
                self.arrive(arrival)

    def _forget_held(self) -> None:
        # It may be from an earlier life of the stream, whose offsets mean nothing in this one.
        self._again = self._again or bool(self._held)
        self._held.clear()

    def _hold(self, arrival: Arrival) -> None:
        if len(self._held) >= MAX_HELD:
            self._held.clear()
            self._again = True
        self._held.append(arrival)

    def _deliver(self, arrival: Arrival, epoch: str = "") -> None:
        known = epoch or (self.position.epoch if self.position else "")
        self.position = Position(known, arrival.offset)
        self._pass_on(self.position, arrival)
