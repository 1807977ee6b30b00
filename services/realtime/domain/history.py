"""Positions in the live stream, and when nothing was missed (promise P7)."""

import re
from typing import NamedTuple


class Position(NamedTuple):
    """A place in one life of the LIVE stream."""

    epoch: str
    offset: int


class Window(NamedTuple):
    """What the LIVE stream holds: the offsets of the first and last message of all channels.

    `first` is `last` + 1 when everything has aged out. `per_channel` is the most it keeps of one
    channel.
    """

    epoch: str
    first: int
    last: int
    per_channel: int


def epoch_of(created: str) -> str:
    """The epoch of a stream created at this RFC 3339 time: short, and without a colon."""
    return f"{int(re.sub(r'[^0-9]', '', created)):x}"


def is_complete(since: Position, window: Window, *, newer: int) -> bool:
    """Whether the `newer` messages that a channel holds after `since` are all there ever were.

    `window` must be read after they were counted. Messages leave in two ways. Age and the bound on
    bytes take the oldest of the whole stream: `first` moves past them. The bound per channel takes
    the oldest of a channel while `per_channel` newer ones exist; as long as `first` has not moved
    past `since`, those newer ones are all still there, so `newer` has reached the bound.

    Errs on the side of False: when other channels have moved `first` past `since`, a quiet channel
    counts as incomplete; and so does one with exactly `per_channel` newer messages.
    """
    return (
        since.epoch == window.epoch
        and since.offset <= window.last
        and window.first <= since.offset + 1
        and newer < window.per_channel
    )
