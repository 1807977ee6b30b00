"""Dead letters: what their headers say, whose they are, and the message that replays one."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID, uuid5

import msgspec

from services.scheduler.domain.plans import SUITE

OPEN: Final = "open"
REPLAYED: Final = "replayed"
DISCARDED: Final = "discarded"
LETTER_STATES: Final = (OPEN, REPLAYED, DISCARDED)

_IDS: Final = UUID("6f6f1c1e-6c0b-5d4e-9f0a-0b1f5f9b7a51")
# Which token of a subject is the organization, by first token; others carry none.
_ORG_TOKEN: Final = {
    "accounts": 2,
    "activity": 3,
    "telemetry": 3,
    "sessions": 3,
    "jobs": 2,
    "presence": 2,
    "live": 2,
}

# What may be published again; live messages are seconds old or worthless.
_REPLAYABLE: Final = (*(first for first in _ORG_TOKEN if first != "live"), "work", "reports")


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that left processing by failure; the fields before `payload` say where and why.

    `message_id` is the id it had when it was first announced; `replay_count` how often it had been
    replayed when it died. `replay_of` is the letter whose replay died as this one.
    """

    org_id: UUID
    id: UUID
    service: str
    consumer: str
    stream: str
    stream_seq: int
    subject: str
    message_id: str
    type: str
    cause: str
    error: str
    fingerprint: str
    deliveries: int
    replay_count: int
    traceparent: str
    died_us: int
    payload: bytes = b""
    headers: str = ""
    state: str = OPEN
    replay_of: UUID | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A letter to publish again; `number` counts the replays of its message, from 1."""

    org_id: UUID
    letter_id: UUID
    message_id: str
    number: int
    consumer: str
    subject: str
    type: str
    traceparent: str
    payload: bytes


def read_letter(
    letter_message_id: str, subject: str, headers: Mapping[str, str], payload: bytes, now_us: int
) -> Letter:
    """Never fails: a letter that can't be indexed would be a letter about a letter.

    The same message gives the same id however often it is read.
    """
    original = _text(headers.get("Orig-Subject"))
    *_, service, consumer = ["", "", *subject.split(".", 3)[2:]]
    return Letter(
        org_id=org_of(original),
        id=uuid5(_IDS, letter_message_id),
        service=_text(headers.get("Dlq-Service")) or service,
        consumer=_text(headers.get("Dlq-Consumer")) or consumer,
        stream=_text(headers.get("Orig-Stream")),
        stream_seq=_number(headers.get("Orig-Seq")),
        subject=original,
        message_id=_text(headers.get("Orig-Msg-Id")) or letter_message_id,
        type=_text(headers.get("Orig-Type")),
        cause=_text(headers.get("Dlq-Cause")),
        error=_text(headers.get("Dlq-Error")),
        fingerprint=_text(headers.get("Dlq-Fingerprint")),
        deliveries=_number(headers.get("Dlq-Deliveries")),
        replay_count=_number(headers.get("Replay-Count")),
        traceparent=_text(headers.get("traceparent")),
        died_us=_died(headers, now_us),
        payload=payload,
        headers=_text(msgspec.json.encode(dict(headers)).decode()),
    )


def org_of(subject: str) -> UUID:
    """The organization a subject names; the suite's own when it names none."""
    tokens = subject.split(".")
    place = _ORG_TOKEN.get(tokens[0], len(tokens))
    try:
        return UUID(tokens[place]) if tokens[1:2] == ["v1"] else SUITE
    except (IndexError, ValueError):
        return SUITE


def may_replay(subject: str) -> bool:
    """Whether a letter knows where it came from and that place takes replays."""
    tokens = subject.split(".")
    return len(tokens) > 2 and tokens[0] in _REPLAYABLE and tokens[1] == "v1" and all(tokens)


def replay_headers(replay: Replay) -> dict[str, str]:
    """Headers of the message that replays a letter.

    Consumers take `Replay-Of` for the message's id, so that their inbox knows what took effect, and
    only `Replay-Consumer` handles it: to the others it is old news.
    """
    headers = {
        "ce-specversion": "1.0",
        "ce-id": replay.message_id,
        "ce-type": replay.type,
        "ce-source": "timeloom/scheduler",
        "ce-subject": replay.subject,
        "Replay-Of": replay.message_id,
        "Replay-Count": str(replay.number),
        "Replay-Consumer": replay.consumer,
        "Replay-Letter": str(replay.letter_id),
    }
    if replay.traceparent:
        headers["traceparent"] = replay.traceparent
    return headers


def replay_message_id(replay: Replay) -> str:
    """A new id, or the stream's dedupe window would swallow the replay; the same on every try."""
    return f"{replay.message_id}:r{replay.number}"


def _text(value: str | None) -> str:
    # PostgreSQL's text holds everything but this one character.
    return (value or "").replace("\x00", "")


def _number(value: str | None) -> int:
    is_number = value is not None and value.isascii() and value.isdecimal() and len(value) < 10
    return int(value) if value is not None and is_number else 0


def _died(headers: Mapping[str, str], now_us: int) -> int:
    value = headers.get("Dlq-Died-Us", "")
    died = int(value) if value.isascii() and value.isdecimal() and len(value) < 18 else now_us
    # A clock that runs ahead must not keep a letter longer than others.
    return min(died, now_us)
