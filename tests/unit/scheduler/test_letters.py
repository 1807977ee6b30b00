"""Dead letters as their headers tell, and the messages that replay them."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.domain.letters import (
    Replay,
    may_replay,
    org_of,
    read_letter,
    replay_headers,
    replay_message_id,
)
from services.scheduler.domain.plans import SUITE

ORG = UUID("01930f5e-7a2b-7c3d-8e4f-5a6b7c8d9e0f")
NOW = 1_790_000_000_000_000
HEADERS = {
    "Dlq-Cause": "permanent",
    "Dlq-Error": "Invalid: no",
    "Dlq-Fingerprint": "0123456789abcdef",
    "Dlq-Deliveries": "3",
    "Dlq-Service": "sessions",
    "Dlq-Consumer": "sessions-activity-3",
    "Dlq-Died-Us": str(NOW - 5),
    "Orig-Stream": "ACTIVITY",
    "Orig-Seq": "17",
    "Orig-Subject": f"activity.v1.3.{ORG}",
    "Orig-Msg-Id": "abc",
    "Orig-Type": "timeloom.ingest.v1.ActivityRecorded",
    "Replay-Count": "0",
    "traceparent": "00-1-2-01",
}
SUBJECT = "dlq.v1.sessions.sessions-activity-3"


def test_headers_say_everything() -> None:
    letter = read_letter("dlq:sessions-activity-3:abc", SUBJECT, HEADERS, b"payload", NOW)
    assert (letter.org_id, letter.subject, letter.message_id) == (
        ORG,
        f"activity.v1.3.{ORG}",
        "abc",
    )
    assert (letter.cause, letter.deliveries, letter.stream_seq) == ("permanent", 3, 17)
    assert (letter.died_us, letter.payload, letter.replay_count) == (NOW - 5, b"payload", 0)


def test_the_same_letter_always_has_the_same_id() -> None:
    first = read_letter("dlq:a:b", SUBJECT, HEADERS, b"", NOW)
    again = read_letter("dlq:a:b", SUBJECT, {}, b"", NOW + 1)
    other = read_letter("dlq:a:b:r1", SUBJECT, HEADERS, b"", NOW)
    assert first.id == again.id
    assert first.id != other.id


@given(
    st.dictionaries(st.sampled_from([*HEADERS, "X"]), st.text(max_size=30)),
    st.text(max_size=30),
    st.binary(max_size=10),
)
def test_no_letter_is_unreadable(headers: dict[str, str], subject: str, payload: bytes) -> None:
    letter = read_letter("id", subject, headers, payload, NOW)
    texts = [letter.service, letter.consumer, letter.subject, letter.message_id, letter.error]
    assert not any("\x00" in text for text in [*texts, letter.headers])
    assert 0 <= letter.died_us <= NOW
    assert 0 <= letter.deliveries < 2**31


def test_a_letter_without_headers_is_named_by_its_subject() -> None:
    letter = read_letter("id", SUBJECT, {}, b"", NOW)
    assert (letter.service, letter.consumer) == ("sessions", "sessions-activity-3")
    assert letter.message_id == "id"


@pytest.mark.parametrize(
    ("subject", "org"),
    [
        (f"accounts.v1.{ORG}", ORG),
        (f"activity.v1.15.{ORG}", ORG),
        (f"sessions.v1.0.{ORG}", ORG),
        (f"jobs.v1.{ORG}", ORG),
        (f"live.v1.{ORG}.space.1", ORG),
        ("jobs.v1.system", SUITE),
        ("work.v1.ingest.partitions", SUITE),
        (f"reports.v1.{ORG}", SUITE),
        (f"activity.v2.15.{ORG}", SUITE),
        (f"activity.v1.{ORG}", SUITE),
        ("", SUITE),
        ("activity", SUITE),
    ],
)
def test_the_organization_is_read_off_the_subject(subject: str, org: UUID) -> None:
    assert org_of(subject) == org


@pytest.mark.parametrize(
    "subject",
    ["", "activity", "activity.v1", "live.v1.x.me", "dlq.v1.a.b", "jobs.v2.x", "jobs.v1."],
)
def test_not_everything_can_be_published_again(subject: str) -> None:
    assert not may_replay(subject)
    assert may_replay("work.v1.ingest.partitions")
    assert may_replay(f"activity.v1.3.{ORG}")


def test_a_replay_is_new_to_the_stream_and_old_to_the_inbox() -> None:
    replay = Replay(
        org_id=ORG,
        letter_id=UUID(int=5),
        message_id="abc",
        number=2,
        consumer="sessions-activity-3",
        subject=f"activity.v1.3.{ORG}",
        type="t",
        traceparent="",
        payload=b"",
    )
    assert replay_message_id(replay) == "abc:r2"
    headers = replay_headers(replay)
    assert headers["Replay-Of"] == headers["ce-id"] == "abc"
    assert headers["Replay-Count"] == "2"
    assert headers["Replay-Consumer"] == "sessions-activity-3"
    assert "traceparent" not in headers
