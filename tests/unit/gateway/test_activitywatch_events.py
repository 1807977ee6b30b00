"""ActivityWatch's events become columns, and come back as they were sent."""

from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.common.v1.types_pb2 import TimeRange
from protos.ingest.v1.ingest_pb2 import Bucket, StoredEvent
from services.gateway.activitywatch_events import (
    ACTIVE,
    AFK,
    EDITOR,
    IDLE,
    LIMITS,
    MAX_DATA,
    WEB,
    WINDOW,
    columns_of,
    facts_of,
    guessed_client,
    guessed_host,
    guessed_type,
    integer_id,
    kept_data,
    shown_bucket,
    shown_event,
)
from services.gateway.payloads.activitywatch import ReportedEvent
from services.ingest.domain import admission

START_US = 1_704_067_200_000_000


@pytest.mark.parametrize(
    ("bucket_type", "data", "texts", "flags"),
    [
        (WINDOW, {"app": "Firefox", "title": "News"}, {"app": "Firefox", "title": "News"}, 0),
        (WINDOW, {"app": "Firefox", "title": ""}, {"app": "Firefox"}, 0),
        (WINDOW, {"app": 7, "title": None}, {}, 0),
        (AFK, {"status": "afk"}, {}, IDLE),
        (AFK, {"status": "not-afk"}, {}, ACTIVE),
        (AFK, {"status": "hibernating"}, {}, 0),
        (AFK, {"status": ["afk"]}, {}, 0),
        (
            WEB,
            {"url": "https://x/", "title": "X", "audible": False, "incognito": False},
            {"url": "https://x/", "title": "X"},
            0,
        ),
        (WEB, {"url": "https://x/", "title": "X", "audible": True}, None, ACTIVE),
        (WEB, {"url": "https://x/", "title": "X", "incognito": True}, {}, 0),
        (
            EDITOR,
            {"file": "a.py", "project": "p", "language": "python", "branch": "main"},
            {"file": "a.py", "project": "p", "language": "python"},
            0,
        ),
        ("networkstatus", {"status": "offline", "app": "x"}, {}, 0),
    ],
)
def test_what_each_type_of_bucket_says(
    bucket_type: str, data: dict[str, Any], texts: dict[str, str] | None, flags: int
) -> None:
    facts = facts_of(bucket_type, data)
    assert facts.flags == flags
    if texts is not None:
        assert facts.texts == texts


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
TYPES = st.sampled_from([WINDOW, AFK, EDITOR, WEB, "anything"])


@given(TYPES, st.dictionaries(st.text(), JSON, max_size=5))
def test_data_comes_back_as_it_was_sent(bucket_type: str, data: dict[str, Any]) -> None:
    columns = columns_of(bucket_type, [reported(data)])
    stored = StoredEvent(
        event_id=str(UUID(int=5 << 76)), start_us=START_US, data_json=columns.data_json[0]
    )
    shown = msgspec.json.decode(msgspec.json.encode(shown_event(stored)))
    assert shown["data"] == data


def reported(data: dict[str, Any]) -> ReportedEvent:
    return ReportedEvent(event_id=0, start_us=START_US, duration_us=1_000_000, data=data)


def test_columns_stand_side_by_side_and_are_absent_where_nobody_says_anything() -> None:
    columns = columns_of(WINDOW, [reported({"app": "a"}), reported({"app": "b", "title": "t"})])
    assert list(columns.app) == ["a", "b"]
    assert list(columns.title) == ["", "t"]
    assert list(columns.url) == []
    assert list(columns.flags) == [0, 0]
    assert list(columns.start_us) == [START_US] * 2


def test_of_incognito_tabs_no_trace_is_kept() -> None:
    data = {"url": "https://secret/", "title": "Secret", "incognito": True, "tabCount": 3}
    columns = columns_of(WEB, [reported(data)])
    assert "ecret" not in str(columns)
    assert msgspec.json.decode(columns.data_json[0]) == {"incognito": True, "tabCount": 3}


def test_what_outgrows_ingest_is_cut_and_not_refused() -> None:
    data = {"url": "data:" + "x" * 200_000, "title": "t" * 100_000, "app": "a" * 10_000}
    facts = facts_of(WINDOW, data)
    assert {name: len(text) for name, text in facts.texts.items()} == {
        name: LIMITS[name] for name in ("app", "title")
    }
    assert len(kept_data(WEB, data)) <= MAX_DATA
    assert kept_data(WEB, {"a": "x" * 10_000}) == '{"a":"' + "x" * 10_000 + '"}'


def test_the_limits_are_those_of_ingest() -> None:
    assert admission.MAX_CHARACTERS["data"] == MAX_DATA
    assert {name: admission.MAX_CHARACTERS[name] for name in LIMITS} == LIMITS


def test_texts_hold_no_nul() -> None:
    assert facts_of(WINDOW, {"app": "a\0b"}).texts == {"app": "ab"}


@given(st.text())
def test_ids_are_whole_numbers_that_javascript_can_hold(name: str) -> None:
    for event_id in (uuid5(UUID(int=1), name), uuid4()):
        number = integer_id(str(event_id))
        assert 0 < number < 2**52
        assert number == int(event_id.hex[:13], 16)


def test_events_are_clipped_to_the_stretch() -> None:
    stored = StoredEvent(
        event_id=str(UUID(int=7 << 76)),
        start_us=START_US,
        duration_us=10_000_000,
        data_json='{"a":1}',
    )
    within = TimeRange(from_us=START_US + 3_000_000, until_us=START_US + 6_001_000)
    assert msgspec.json.decode(msgspec.json.encode(shown_event(stored, within))) == {
        "id": 7,
        "timestamp": "2024-01-01T00:00:03+00:00",
        "duration": 3.001,
        "data": {"a": 1},
    }


def test_events_of_other_agents_show_their_columns() -> None:
    stored = StoredEvent(event_id=str(UUID(int=7 << 76)), start_us=START_US, app="vim", title="x")
    assert shown_event(stored).data == {"app": "vim", "title": "x"}


def test_a_bucket_is_shown_as_the_reference_server_shows_it() -> None:
    bucket = Bucket(
        name="b3", type="t", client="c", hostname="vm", created_us=START_US, data_json='{"k":1}'
    )
    assert msgspec.json.decode(msgspec.json.encode(shown_bucket(bucket))) == {
        "id": "b3",
        "name": None,
        "type": "t",
        "client": "c",
        "hostname": "vm",
        "created": "2024-01-01T00:00:00+00:00",
        "data": {"k": 1},
    }
    bucket.last_updated_us = START_US + 1000
    assert shown_bucket(bucket).last_updated == "2024-01-01T00:00:00.001000+00:00"


@pytest.mark.parametrize(
    ("name", "data", "guess"),
    [
        ("aw-watcher-window_laptop", {}, (WINDOW, "aw-watcher-window", "laptop")),
        ("aw-watcher-afk_my_box", {}, (AFK, "aw-watcher-afk", "my_box")),
        ("aw-watcher-web-firefox", {}, (WEB, "aw-watcher-web-firefox", "unknown")),
        ("own", {"status": "afk"}, (AFK, "own", "unknown")),
        ("own", {"status": []}, ("unknown", "own", "unknown")),
        ("own_host", {"app": "a", "title": "t"}, (WINDOW, "own", "host")),
        ("own", {"url": "u", "title": "t"}, (WEB, "own", "unknown")),
        ("own", {"file": "", "project": "", "language": ""}, (EDITOR, "own", "unknown")),
        ("_", {}, ("unknown", "_", "unknown")),
    ],
)
def test_a_bucket_nobody_made_is_guessed(
    name: str, data: dict[str, Any], guess: tuple[str, str, str]
) -> None:
    assert (guessed_type(name, data), guessed_client(name), guessed_host(name)) == guess
