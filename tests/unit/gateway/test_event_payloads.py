"""Bodies of POST /v1/events: every way to be right, and each way to be wrong alone."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.clock import to_datetime, to_us
from chassis.errors import Invalid
from protos.common.v1.types_pb2 import Violation
from protos.ingest.v1.ingest_pb2 import AppendEventsResponse, RejectedEvent
from services.gateway.payloads.decode import Malformed
from services.gateway.payloads.events import columns_of, ids_of, posted_reply, read_batch

GOOD: dict[str, Any] = {"start": "2026-01-19T10:00:00Z", "duration": 5}
TEXTS = {
    "app": 200,
    "title": 1000,
    "url": 4000,
    "project": 200,
    "file": 2000,
    "language": 100,
    "category": 100,
}


def body(*events: Any) -> bytes:
    return msgspec.json.encode({"device_id": "d", "source": "s", "events": list(events)})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"start": None}, "start"),
        ({"start": "2026-01-19T10:00:00"}, "start"),
        ({"start": "2026-01-19"}, "start"),
        ({"start": "2026-13-19T10:00:00Z"}, "start"),
        ({"start": "2026-02-30T10:00:00Z"}, "start"),
        ({"start": "2026-01-19T10:00:60Z"}, "start"),
        ({"start": "10000-01-19T10:00:00Z"}, "start"),
        ({"start": 1_768_816_800}, "start"),
        ({"duration": -0.001}, "duration"),
        ({"duration": "5"}, "duration"),
        ({"duration": None}, "duration"),
        ({"duration": True}, "duration"),
        ({"duration": 1e300}, "duration"),
        ({"duration": 10**40}, "duration"),
        ({"duration": 31 * 86_400 + 1}, "duration"),
        ({"kind": "wish"}, "kind"),
        ({"idle": "yes"}, "idle"),
        ({"idle": 0}, "idle"),
        ({"id": ""}, "id"),
        ({"id": "x" * 201}, "id"),
        ({"id": 7}, "id"),
        ({"data": "text"}, "data"),
        ({"data": [1]}, "data"),
        ({"data": 7}, "data"),
        ({"data": {"x": "y" * 9000}}, "data"),
        ({"data": {"a": {"b": ["\0"]}}}, "data.a.b[0]"),
        ({"colour": "red"}, "colour"),
        ({"end": "2026-01-19T10:00:00Z"}, "end"),
        *(({name: "x" * (limit + 1)}, name) for name, limit in TEXTS.items()),
        *(({name: 1}, name) for name in TEXTS),
        *(({name: "a\0b"}, name) for name in TEXTS),
    ],
)
def test_a_wrong_field_is_named_and_costs_only_its_event(
    change: dict[str, Any], field: str
) -> None:
    batch = read_batch(body(GOOD, GOOD | change, GOOD))
    assert len(batch.events) == 2
    assert batch.places == [0, 2]
    (rejected,) = batch.rejected
    assert rejected.index == 1
    assert [error.field for error in rejected.errors] == [field]
    assert all(error.message for error in rejected.errors)


@pytest.mark.parametrize("missing", ["start", "duration"])
def test_what_is_required_is_said_to_be(missing: str) -> None:
    event = {name: value for name, value in GOOD.items() if name != missing}
    (rejected,) = read_batch(body(event)).rejected
    assert [(error.field, error.message) for error in rejected.errors] == [(missing, "is required")]


@pytest.mark.parametrize("event", [None, 1, "x", [], True])
def test_an_event_that_is_no_object_is_rejected_alone(event: Any) -> None:
    batch = read_batch(body(event, GOOD))
    assert [one.index for one in batch.rejected] == [0]
    assert len(batch.events) == 1


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"duration": 0},
        {"duration": 0.001},
        {"duration": 31 * 86_400},
        {"kind": "point", "duration": 0},
        {"idle": None},
        {"idle": True},
        {"id": "x" * 200},
        {"data": None},
        {"data": {}},
        {"data": {"deep": {"er": [1, None, "\\u0000"]}}},
        {"title": "a\\u0000b"},
        {"title": "👩‍💻 — “quoted” \u2028"},
        *({name: None} for name in TEXTS),
        *({name: ""} for name in TEXTS),
        *({name: "x" * limit} for name, limit in TEXTS.items()),
    ],
)
def test_everything_else_is_taken(change: dict[str, Any]) -> None:
    batch = read_batch(body(GOOD | change))
    assert (len(batch.events), batch.places, batch.rejected) == (1, None, [])
    columns_of(batch.events).SerializeToString()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"device_id":"d","source":"s","events":[', b"\xff", b"nul", body(GOOD) + b"x"],
)
def test_what_is_no_json_is_malformed(content: bytes) -> None:
    with pytest.raises(Malformed):
        read_batch(content)


def test_columns_that_say_nothing_are_left_out() -> None:
    batch = read_batch(body(GOOD, GOOD | {"app": "Code", "id": "x"}))
    columns = columns_of(batch.events)
    assert list(columns.app) == ["", "Code"]
    assert ids_of(batch.events) == ["", "x"]
    for name in (*TEXTS, "data_json"):
        assert name == "app" or len(getattr(columns, name)) == 0
    assert ids_of(read_batch(body(GOOD)).events) == []


instants = st.builds(
    lambda us, minutes: to_datetime(us).astimezone(timezone(timedelta(minutes=minutes))),
    st.integers(0, 4_000_000_000_000_000),
    st.integers(-14 * 60, 14 * 60),
)
texts = st.text(max_size=100).filter(lambda text: "\0" not in text)


@given(
    instants,
    st.integers(0, 31 * 86_400 * 1_000_000),
    st.sampled_from(["sample", "point"]),
    st.sampled_from([None, True, False]),
    st.none() | texts,
    st.none() | st.dictionaries(texts, texts | st.integers() | st.none(), max_size=3),
)
@example(datetime(2026, 1, 19, 10, tzinfo=UTC), 1, "sample", None, None, None)
def test_events_arrive_exactly_as_they_were_sent(
    start: datetime,
    duration_us: int,
    kind: str,
    idle: bool | None,
    app: str | None,
    data: dict[str, Any] | None,
) -> None:
    event = {
        "start": start.isoformat(),
        "duration": duration_us / 1_000_000,
        "kind": kind,
        "idle": idle,
        "app": app,
        "data": data,
    }
    batch = read_batch(body(event))
    columns = columns_of(batch.events)
    assert batch.rejected == []
    assert list(columns.start_us) == [to_us(start)]
    assert list(columns.duration_us) == [duration_us]
    assert columns.flags[0] == (4 if kind == "point" else 0) | {None: 0, False: 1, True: 2}[idle]
    assert list(columns.app) == ([app] if app else [])
    if data is not None:
        assert msgspec.json.decode(columns.data_json[0]) == data


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_places_are_those_of_the_request(is_good: list[bool], data: st.DataObject) -> None:
    events = [GOOD if good else GOOD | {"duration": -1} for good in is_good]
    batch = read_batch(body(*events))
    good = [index for index, ok in enumerate(is_good) if ok]
    refused = data.draw(st.sets(st.sampled_from(range(len(good))))) if good else set()
    answer = AppendEventsResponse(
        accepted=len(good) - len(refused),
        rejected=[
            RejectedEvent(index=index, errors=[Violation(field="start", message="no")])
            for index in sorted(refused)
        ],
    )
    reply = posted_reply(batch, answer if good else None)
    bad = {index for index, ok in enumerate(is_good) if not ok}
    assert [one.index for one in reply.rejected] == sorted(bad | {good[i] for i in refused})
    assert reply.accepted + reply.duplicates + len(reply.rejected) == len(events)


@given(st.binary(max_size=200))
def test_no_body_breaks_the_reading(content: bytes) -> None:
    with pytest.raises(Invalid):
        read_batch(content)
