"""When a heartbeat joins the event before it (time-tracking-peers §4.1)."""

from collections.abc import Iterable
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.admission import MAX_DURATION_US
from services.ingest.domain.columns import CLAMPED, POINT
from services.ingest.domain.events import Content, Event
from services.ingest.domain.heartbeats import Beat, Neighbours, join, waves

MILLISECOND_US = 1000
ORG, ANA = UUID(int=1), UUID(int=2)


def beat(start: float, duration: float = 0, label: str = "a", *, flags: int = 0) -> Event:
    """A heartbeat; seconds to the millisecond."""
    start_us = round(start * 1000) * MILLISECOND_US
    end_us = start_us + round(duration * 1000) * MILLISECOND_US
    return Event(
        event_id=UUID(int=start_us + 1),
        device_id=UUID(int=1),
        source="s",
        start_us=start_us,
        end_us=end_us,
        claimed_end_us=end_us,
        flags=flags,
        revision=0,
        received_us=0,
        content=Content(label, "", "", "", "", "", "", ""),
    )


class Bucket:
    """The events of one bucket, by start."""

    def __init__(self, pulse: float) -> None:
        self.events: list[Event] = []
        self._pulse_us = round(pulse * 1_000_000)

    def hear(self, one: Event) -> None:
        earlier = [event for event in self.events if event.start_us <= one.start_us]
        later = [event for event in self.events if event.start_us > one.start_us]
        around = Neighbours(earlier[-1] if earlier else None, later[0] if later else None)
        joined = join(Beat(ORG, ANA, one, self._pulse_us, 1 << 60), around)
        kept = earlier[:-1] if joined.is_growth else earlier
        if not joined.is_news:
            assert joined.event is around.before
        self.events = [*kept, joined.event, *later]

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Start and duration of each event, in seconds."""
        return [
            (event.start_us / 1e6, (event.end_us - event.start_us) / 1e6) for event in self.events
        ]


def hear(beats: Iterable[Event], pulse: float) -> Bucket:
    bucket = Bucket(pulse)
    for one in beats:
        bucket.hear(one)
    return bucket


@pytest.mark.parametrize(
    ("last", "next_one", "pulse", "spans"),
    [
        (beat(0, 1), beat(3), 2, [(0, 3)]),
        (beat(0, 1), beat(3.001), 2, [(0, 1), (3.001, 0)]),
        (beat(0, 10), beat(3, 1), 0, [(0, 10)]),
        (beat(0, 10), beat(9, 5), 0, [(0, 14)]),
        (beat(0), beat(0, 1), 0, [(0, 1)]),
        (beat(0, 1), beat(0), 0, [(0, 1)]),
        (beat(0, 1), beat(2, 1), 2, [(0, 3)]),
        (beat(0, 1), beat(2, 1), 0, [(0, 1), (2, 1)]),
        (beat(0, 1), beat(120), 120, [(0, 120)]),
        (beat(0, 1), beat(120), 60, [(0, 1), (120, 0)]),
        (beat(0, 1), beat(1, 1, "b"), 5, [(0, 1), (1, 1)]),
    ],
)
def test_the_vectors_of_activitywatch(last, next_one, pulse, spans):
    assert hear([last, next_one], pulse).spans == spans


def test_a_day_of_labels_over_midnight():
    labels = [1, 1, 2, 3, 4] * 4
    midnight_at = 600
    beats = [beat(60 * i, 0, str(label)) for i, label in enumerate(labels)]
    spans = hear(beats, 90).spans
    assert len(spans) == 16
    assert len([start for start, _ in spans if start >= midnight_at]) == 8


def test_the_golden_sequence_and_what_comes_late():
    bucket = hear([beat(0), beat(5), beat(10), beat(15.002)], 5)
    assert bucket.spans == [(0, 10), (15.002, 0)]
    # ActivityWatch makes a third event of this one, which overlaps the second.
    bucket.hear(beat(14))
    assert bucket.spans == [(0, 15.002), (15.002, 0)]


def test_a_late_heartbeat_that_says_something_else_is_an_event_of_its_own():
    bucket = hear([beat(0, 5), beat(20, 5), beat(10, 2, "b")], 8)
    assert bucket.spans == [(0, 5), (10, 2), (20, 5)]


def test_a_heartbeat_before_everything_reaches_the_first_event():
    assert hear([beat(5, 1), beat(4)], 10).spans == [(4, 1), (5, 1)]
    assert hear([beat(50, 1), beat(4)], 10).spans == [(4, 0), (50, 1)]
    assert hear([beat(5, 1, "b"), beat(4)], 10).spans == [(4, 0), (5, 1)]


def test_the_clamp_is_no_part_of_what_an_event_says():
    clamped = msgspec.structs.replace(beat(0, 10), flags=CLAMPED)
    assert hear([clamped, beat(12)], 5).spans == [(0, 12)]


def test_state_is_part_of_what_an_event_says():
    assert len(hear([beat(0, 1, flags=1), beat(1, 1, flags=2)], 5).spans) == 2


def test_points_never_join():
    assert len(hear([beat(0, flags=POINT), beat(1, flags=POINT)], 60).spans) == 2


def test_no_event_outgrows_a_month():
    days = MAX_DURATION_US // 86_400_000_000
    beats = [beat(86_400 * day) for day in range(days + 2)]
    spans = hear(beats, 90_000).spans
    assert spans[0] == (0, days * 86_400)
    assert spans[1:] == [((days + 1) * 86_400, 0)]


starts = st.lists(st.integers(0, 40), min_size=1, max_size=15)


def covered(bucket: Bucket) -> set[int]:
    """The seconds between whole instants that some event covers."""
    return {
        second
        for start, duration in bucket.spans
        for second in range(int(start), int(start + duration))
    }


@given(starts, st.integers(0, 6), st.randoms())
def test_one_state_covers_the_same_time_in_any_order_and_never_overlaps(moments, pulse, random):
    in_order = hear([beat(moment) for moment in sorted(moments)], pulse)
    shuffled = hear([beat(m) for m in random.sample(moments, len(moments))], pulse)
    assert covered(shuffled) == covered(in_order)
    ends = [start + duration for start, duration in shuffled.spans]
    assert all(end <= start for end, (start, _) in zip(ends, shuffled.spans[1:], strict=False))


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5), st.sampled_from("ab"))),
    st.integers(0, 6),
)
def test_a_heartbeat_heard_twice_changes_nothing(heard, pulse):
    bucket = Bucket(pulse)
    for one in heard:
        bucket.hear(beat(*one))
        events = bucket.events
        bucket.hear(beat(*one))
        assert bucket.events == events


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5))), st.integers(0, 6), st.randoms())
def test_a_queue_sent_again_in_any_order_changes_nothing(heard, pulse, random):
    beats = [beat(*one) for one in sorted(heard)]
    bucket = hear(beats, pulse)
    events = bucket.events
    for one in random.sample(beats, len(beats)):
        bucket.hear(one)
    assert bucket.events == events


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5), st.sampled_from("ab"))),
    st.integers(0, 6),
)
def test_in_order_it_is_the_reduction_of_activitywatch(heard, pulse):
    beats = [beat(*one) for one in sorted(heard, key=lambda one: one[0])]
    reduced: list[tuple[int, int, str]] = []
    for one in beats:
        label = one.content.app
        if reduced and reduced[-1][2] == label and one.start_us <= reduced[-1][1] + pulse * 10**6:
            start, end, _ = reduced[-1]
            reduced[-1] = (start, max(end, one.end_us), label)
        else:
            reduced.append((one.start_us, one.end_us, label))
    bucket = hear(beats, pulse)
    assert [(e.start_us, e.end_us, e.content.app) for e in bucket.events] == reduced


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=12))
def test_a_wave_has_no_bucket_twice_and_each_bucket_stays_in_order(heard):
    beats = [
        Beat(ORG, ANA, msgspec.structs.replace(beat(start), source=source), 0, 0)
        for source, start in heard
    ]
    found = waves(beats)
    assert sorted(place for wave in found for place in wave) == list(range(len(beats)))
    for wave in found:
        buckets = [beats[place].bucket for place in wave]
        assert buckets == sorted(set(buckets))
    for source in "abc":
        places = [place for wave in found for place in wave if heard[place][0] == source]
        assert places == sorted(places)
