"""Which reported events can be kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Invalid
from services.ingest.domain.admission import (
    AHEAD_US,
    MAX_CHARACTERS,
    MAX_DURATION_US,
    MAX_EVENTS,
    YEAR_2000_US,
    Window,
    admit,
)
from services.ingest.domain.columns import CLAMPED, Texts
from tests.unit.ingest.reports import NOW, SECOND_US, SOURCE, T0, WINDOW, admitted, report, reported
from tests.unit.ingest.reports import rows as rows_of

GOOD = report(0, 5, app="Code", title="a")


def fields(admission) -> list[tuple[int, list[str]]]:
    return [(one.place, [error.field for error in one.errors]) for one in admission.rejected]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"start_us": YEAR_2000_US - 1}, "start"),
        ({"start_us": NOW + AHEAD_US + 1000}, "start"),
        ({"start_us": -(2**62)}, "start"),
        ({"duration_us": -1}, "duration"),
        ({"duration_us": MAX_DURATION_US + 1}, "duration"),
        ({"flags": 3}, "idle"),
        ({"flags": 8}, "flags"),
        ({"flags": 16}, "flags"),
        ({"flags": 4}, "duration"),
        ({"name": "x" * 201}, "id"),
        ({"data": "[1]"}, "data"),
        ({"data": "{"}, "data"),
        ({"data": '{"a":1e999}'}, "data"),
        *(({name: "x" * (limit + 1)}, name) for name, limit in MAX_CHARACTERS.items()),
        *(({name: "a\0b"}, name) for name in Texts._fields),
    ],
)
def test_a_bad_event_alone_is_rejected_with_its_field_named(bad, field):
    admission = admitted(GOOD, {**GOOD, **bad}, {**GOOD, "title": "c"})
    assert fields(admission) == [(1, [field])]
    assert admission.columns.ids == admitted(GOOD, {**GOOD, "title": "c"}).columns.ids


def test_everything_wrong_with_an_event_is_said_at_once():
    admission = admitted({**GOOD, "start_us": 0, "duration_us": -5, "app": "\0", "data": "nope"})
    assert fields(admission) == [(0, ["start", "duration", "app", "data"])]
    assert len(admission.columns) == 0


@pytest.mark.parametrize(
    "good",
    [
        {"start_us": YEAR_2000_US},
        {"start_us": NOW + AHEAD_US},
        {"duration_us": MAX_DURATION_US, "start_us": T0 - MAX_DURATION_US},
        {"duration_us": 0, "flags": 4},
        {"name": "x" * 200},
        *({name: "x" * limit} for name, limit in MAX_CHARACTERS.items() if name != "data"),
    ],
)
def test_limits_themselves_are_allowed(good):
    assert admitted({**GOOD, **good}).rejected == []


def test_an_end_ahead_of_the_clock_is_clamped_and_flagged_and_the_claim_is_kept():
    admission = admitted(report(0), {**GOOD, "start_us": NOW, "duration_us": 3600 * SECOND_US})
    columns = admission.columns
    assert columns.end_us == [T0 + 5 * SECOND_US, NOW + AHEAD_US]
    assert columns.claims == [T0 + 5 * SECOND_US, NOW + 3600 * SECOND_US]
    assert columns.flags == [1, 1 | CLAMPED]


def test_a_clamped_event_keeps_its_identity_when_it_is_sent_again_later():
    event = {**GOOD, "start_us": NOW, "duration_us": 3600 * SECOND_US}
    later = Window(YEAR_2000_US, NOW + 60 * SECOND_US)
    first, second = admitted(event).columns, admitted(event, window=later).columns
    assert first.ids == second.ids
    assert first.claims == second.claims
    assert first.end_us < second.end_us


@given(st.integers(T0, T0 + 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.booleans())
def test_instants_are_rounded_down_to_milliseconds_so_neighbours_stay_neighbours(
    start, first, second, is_point
):
    middle = start + first
    events = [
        {**GOOD, "start_us": start, "duration_us": first},
        {**GOOD, "start_us": middle, "duration_us": 0 if is_point else second},
    ]
    columns = admitted(*events).columns
    assert columns.end_us[0] == columns.start_us[1]
    assert all(us % 1000 == 0 for us in columns.start_us + columns.end_us)
    assert all(a <= b for a, b in zip(columns.start_us, columns.end_us, strict=True))


@given(st.lists(st.sampled_from([GOOD, {**GOOD, "title": "b"}, {**GOOD, "duration_us": -1}])))
def test_every_event_is_either_kept_or_rejected(events):
    if not events:
        return
    admission = admitted(*events)
    places = [one.place for one in admission.rejected]
    assert len(admission.columns) + len(places) == len(events)
    assert places == [i for i, event in enumerate(events) if event["duration_us"] < 0]
    kept = [event for event in events if event["duration_us"] >= 0]
    assert not kept or rows_of(admission.columns) == rows_of(admitted(*kept).columns)


def test_a_request_has_1_to_5000_events():
    assert len(admit(SOURCE, reported(*[GOOD] * MAX_EVENTS), WINDOW).columns) == MAX_EVENTS
    with pytest.raises(Invalid, match="events: holds 5001"):
        admit(SOURCE, reported(*[GOOD] * (MAX_EVENTS + 1)), WINDOW)
    with pytest.raises(Invalid, match="events: holds 0"):
        admit(SOURCE, reported(), WINDOW)


def test_columns_that_do_not_fit_one_another_are_refused_as_a_whole():
    columns = reported(GOOD, GOOD)
    columns.texts.app.append("one too many")
    with pytest.raises(Invalid, match=r"events\.app: has 3 entries for 2 events"):
        admit(SOURCE, columns, WINDOW)


def test_absent_columns_mean_nothing_was_said():
    event = {"start_us": T0}
    columns = admitted(event).columns
    assert rows_of(columns) == [(columns.ids[0], T0, T0, T0, 0, *[""] * 8)]
