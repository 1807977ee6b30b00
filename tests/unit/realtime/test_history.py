"""`recovered` is never said when something is missing."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.realtime.domain.history import Position, Window, epoch_of, is_complete

CAP = 4
CHANNELS = ("a", "b", "c")


@dataclass
class Stream:
    """A stream as JetStream keeps it: a bound per channel, and the oldest aged out."""

    last: int = 0
    kept: list[tuple[int, str]] = field(default_factory=list)
    ever: list[tuple[int, str]] = field(default_factory=list)

    def publish(self, channel: str) -> None:
        self.last += 1
        self.kept.append((self.last, channel))
        self.ever.append((self.last, channel))
        mine = [message for message in self.kept if message[1] == channel]
        if len(mine) > CAP:
            self.kept.remove(mine[0])

    def age(self, count: int) -> None:
        del self.kept[:count]

    def window(self) -> Window:
        first = self.kept[0][0] if self.kept else self.last + 1
        return Window("e", first if self.last else 0, self.last, CAP)

    def newer(self, channel: str, offset: int) -> list[int]:
        return [seq for seq, name in self.kept if name == channel and seq > offset]

    def all_newer(self, channel: str, offset: int) -> list[int]:
        return [seq for seq, name in self.ever if name == channel and seq > offset]


steps = st.lists(st.sampled_from(CHANNELS) | st.integers(1, 6), max_size=60)


@given(steps, st.sampled_from(CHANNELS), st.integers(0, 70))
def test_complete_means_that_every_later_message_is_still_there(
    history: list[str | int], channel: str, offset: int
) -> None:
    stream = Stream()
    for step in history:
        stream.publish(step) if isinstance(step, str) else stream.age(step)
    newer = stream.newer(channel, offset)
    if is_complete(Position("e", offset), stream.window(), newer=len(newer)):
        assert newer == stream.all_newer(channel, offset)
        assert offset <= stream.last


@given(st.lists(st.sampled_from(CHANNELS), max_size=60), st.sampled_from(CHANNELS), st.data())
def test_nothing_is_called_lost_while_the_stream_has_dropped_nothing(
    published: list[str], channel: str, data: st.DataObject
) -> None:
    stream = Stream()
    for name in published:
        if sum(kept == name for _, kept in stream.kept) < CAP:
            stream.publish(name)
    offset = data.draw(st.integers(0, stream.last))
    newer = stream.newer(channel, offset)
    if len(newer) < CAP:
        assert is_complete(Position("e", offset), stream.window(), newer=len(newer))


def test_a_position_of_another_life_of_the_stream_is_never_complete() -> None:
    window = Window("new", 1, 10, CAP)
    assert is_complete(Position("new", 5), window, newer=0)
    assert not is_complete(Position("old", 5), window, newer=0)


def test_a_position_ahead_of_the_stream_is_not_complete() -> None:
    assert not is_complete(Position("e", 11), Window("e", 1, 10, CAP), newer=0)


def test_at_the_end_of_a_stream_that_aged_out_nothing_is_missing() -> None:
    aged_out = Window("e", 11, 10, CAP)
    assert is_complete(Position("e", 10), aged_out, newer=0)
    assert not is_complete(Position("e", 9), aged_out, newer=0)


def test_as_many_messages_as_the_channel_keeps_may_be_the_rest_of_more() -> None:
    window = Window("e", 1, 10, CAP)
    assert is_complete(Position("e", 0), window, newer=CAP - 1)
    assert not is_complete(Position("e", 0), window, newer=CAP)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2026-11-22T10:43:01.88709913Z", "2026-11-22T10:43:01.88709914Z"),
        ("2026-11-22T10:43:01Z", "2026-11-22T10:43:02Z"),
        ("2026-11-22T10:43:01Z", "2026-11-22T10:43:01.5Z"),
    ],
)
def test_streams_made_at_different_times_have_different_epochs(one: str, other: str) -> None:
    assert epoch_of(one) == epoch_of(one)
    assert epoch_of(one) != epoch_of(other)
    assert ":" not in epoch_of(one)
