"""What ActivityWatch's clients write is read as the reference servers read it, or milder."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import MICROSECONDS, to_us
from chassis.errors import Invalid
from services.gateway.payloads.activitywatch import (
    BucketBody,
    ReportedEvent,
    decode_leniently,
    parse_bucket_name,
    parse_event,
    parse_events,
    parse_limit,
    parse_pulsetime,
    parse_stretch,
    parse_timestamp,
    timestamp,
)

START_US = 1_704_067_200 * MICROSECONDS  # 2024-01-01T00:00:00Z


def test_the_exact_bytes_of_aw_client() -> None:
    body = (
        b'{"id": null, "timestamp": "2026-11-22T04:09:24.326000+00:00", "duration": 5.001, '
        b'"data": {"status": "offline"}}'
    )
    assert parse_event(body) == ReportedEvent(
        event_id=0,
        start_us=to_us(datetime(2026, 11, 22, 4, 9, 24, 326_000, UTC)),
        duration_us=5_001_000,
        data={"status": "offline"},
    )


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2024-01-01T00:00:00+00:00", 0),
        ("2024-01-01T00:00:00Z", 0),
        ("2024-01-01T00:00:00", 0),
        ("2024-01-01 00:00:00", 0),
        ("2024-01-01", 0),
        ("2024-01-01T01:00:00+01:00", 0),
        ("2024-01-01T01:00:00 01:00", 0),
        ("2024-01-01 01:00:00 0100", 0),
        ("2023-12-31T19:00:00-05:00", 0),
        ("2024-01-01T00:00:00.123999Z", 123_000),
        ("2024-01-01T00:00:00.123999999Z", 123_000),
        ("2024-01-01T00:00:00.999999+00:00", 999_000),
    ],
)
def test_timestamps_are_utc_in_whole_milliseconds(text: str, us: int) -> None:
    assert parse_timestamp("timestamp", text) - START_US == us


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "9999-12-31T23:59:59-10:00", "0"])
def test_what_is_no_timestamp(text: str) -> None:
    with pytest.raises(Invalid, match="timestamp"):
        parse_timestamp("timestamp", text)


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1)),  # noqa: DTZ001  # naive by contract
    st.integers(-14 * 60, 14 * 60),
)
def test_any_offset_and_a_plus_that_became_a_space(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = to_us(zoned) // 1000 * 1000
    assert parse_timestamp("start", zoned.isoformat()) == expected
    assert parse_timestamp("start", zoned.isoformat().replace("+", " ")) == expected
    assert parse_timestamp("start", timestamp(expected)) == expected


def test_timestamps_are_written_like_the_reference_server() -> None:
    assert timestamp(START_US) == "2024-01-01T00:00:00+00:00"
    assert timestamp(START_US + 15_002_000) == "2024-01-01T00:00:15.002000+00:00"


@pytest.mark.parametrize(
    ("body", "duration_us"),
    [
        (b'{"timestamp": "2024-01-01T00:00:00Z"}', 0),
        (b'{"timestamp": "2024-01-01T00:00:00Z", "duration": -3}', 0),
        (b'{"timestamp": "2024-01-01T00:00:00Z", "duration": null, "id": "x", "more": 1}', 0),
        (b'{"timestamp": "2024-01-01T00:00:00Z", "duration": 1}', MICROSECONDS),
        (b'{"timestamp": "2024-01-01T00:00:00Z", "duration": NaN}', 0),
    ],
)
def test_mild_readings(body: bytes, duration_us: int) -> None:
    assert parse_event(body) == ReportedEvent(
        event_id=0, start_us=START_US, duration_us=duration_us, data={}
    )


def test_no_duration_is_too_long_to_be_told_to_ingest() -> None:
    event = parse_event(b'{"timestamp": "2024-01-01T00:00:00Z", "duration": 1e300}')
    assert event.duration_us < 2**63


@pytest.mark.parametrize(
    ("given_id", "event_id"), [("7", 7), ("0", 0), ("-1", 0), ("null", 0), (str(1 << 52), 0)]
)
def test_ids_that_can_be_ours(given_id: str, event_id: int) -> None:
    body = f'{{"id": {given_id}, "timestamp": "2024-01-01T00:00:00Z"}}'
    assert parse_event(body.encode()).event_id == event_id


def test_a_missing_timestamp_is_named() -> None:
    with pytest.raises(Invalid, match="Input payload validation failed") as caught:
        parse_event(b'{"data": {}}')
    assert caught.value.violations == (("timestamp", "'timestamp' is a required property"),)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"7", b'"x"', b'{"timestamp": 5}', b'{"data": []}', b"[" * 100_000]
)
def test_what_is_no_event(body: bytes) -> None:
    with pytest.raises(Invalid):
        parse_event(body)


def test_half_a_surrogate_pair_in_a_title_loses_no_heartbeat() -> None:
    body = b'{"timestamp": "2024-01-01T00:00:00Z", "data": {"title": "cut \\ud83d"}}'
    assert parse_event(body).data == {"title": "cut ?"}


def test_one_event_or_many_and_the_bad_among_the_good() -> None:
    good = b'{"timestamp": "2024-01-01T00:00:00Z"}'
    assert len(parse_events(good)) == 1
    assert parse_events(b"[]") == []
    events = parse_events(b"[" + good + b', {"data": {}}, 7,' + good + b"]")
    assert [isinstance(event, Invalid) for event in events] == [False, True, True, False]


def test_the_end_of_a_stretch_belongs_to_it() -> None:
    stretch = parse_stretch("2024-01-01T00:00:03 00:00", "2024-01-01T00:00:06+00:00")
    assert stretch is not None
    assert stretch.from_us - START_US == 3_000_000
    assert stretch.until_us - START_US == 6_001_000
    assert parse_stretch(None, None) is None
    assert parse_stretch("", "") is None
    with pytest.raises(Invalid):
        parse_stretch("garbage", None)


@pytest.mark.parametrize(
    ("text", "limit"), [(None, None), ("-1", None), ("-5", None), ("0", 0), ("100", 100)]
)
def test_limits(text: str | None, limit: int | None) -> None:
    assert parse_limit(text) == limit


def test_what_is_no_limit() -> None:
    with pytest.raises(Invalid):
        parse_limit("many")


@pytest.mark.parametrize(("text", "us"), [("5", 5_000_000), ("35.0", 35_000_000), ("-1", 0)])
def test_pulsetimes(text: str, us: int) -> None:
    assert parse_pulsetime(text) == us


@pytest.mark.parametrize("text", [None, "", "soon", "nan"])
def test_what_is_no_pulsetime(text: str | None) -> None:
    with pytest.raises(Invalid, match="pulsetime"):
        parse_pulsetime(text)


def test_an_endless_pulsetime_is_a_long_one() -> None:
    assert 0 < parse_pulsetime("inf") < 2**63


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "a\0b"])
def test_what_is_no_bucket_name(name: str) -> None:
    with pytest.raises(Invalid):
        parse_bucket_name(name)


def test_a_bucket_needs_a_type_a_client_and_a_host() -> None:
    body = b'{"client": "c", "hostname": "vm", "type": "t", "id": "ignored"}'
    assert decode_leniently(body, BucketBody) == BucketBody(type="t", client="c", hostname="vm")
    with pytest.raises(Invalid, match="hostname"):
        decode_leniently(b'{"client": "c", "type": "t"}', BucketBody)
