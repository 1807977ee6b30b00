"""What left processing by failure: published with its cause, indexed by the scheduler.

The stream keeps letters for 30 days and may be browsed; a work queue could not be.
"""

import hashlib
from typing import TYPE_CHECKING, Final

from nats.js.api import RetentionPolicy, StreamConfig

from chassis.bus import Bus, OutMessage
from chassis.clock import Clock

if TYPE_CHECKING:
    from chassis.subscription import Delivery

DLQ_STREAM: Final = "DLQ"
_DAY_SECONDS: Final = 86_400.0
# Error text is for people; more than this is noise in a header.
MAX_ERROR_CHARACTERS: Final = 1000


def dlq_stream() -> StreamConfig:
    """The stream of dead letters; the scheduler declares it."""
    return StreamConfig(
        name=DLQ_STREAM,
        subjects=["dlq.v1.>"],
        retention=RetentionPolicy.LIMITS,
        max_age=30 * _DAY_SECONDS,
        max_bytes=1024 * 1024 * 1024,
        allow_direct=True,
        allow_atomic=True,
    )


class DeadLetters:
    """Publishes dead letters of one service."""

    def __init__(self, *, bus: Bus, service: str, clock: Clock) -> None:
        self._bus = bus
        self._service = service
        self._clock = clock

    async def publish(
        self, *, consumer: str, delivery: "Delivery", cause: str, error: BaseException, stream: str
    ) -> None:
        """Writes one letter; repeats of the same message and consumer are one letter.

        A replay that dies is another letter than the one it replays.

        Raises:
            Unavailable: not known to be stored.
        """
        text = f"{type(error).__name__}: {error}"
        replays = delivery.headers.get("Replay-Count", "0")
        suffix = "" if replays == "0" else f":r{replays}"
        headers = {
            "Dlq-Cause": cause,
            "Dlq-Error": header_text(text),
            "Dlq-Fingerprint": fingerprint(consumer, type(error).__name__, delivery.type),
            "Dlq-Deliveries": str(delivery.attempt),
            "Dlq-Service": self._service,
            "Dlq-Consumer": consumer,
            "Dlq-Died-Us": str(self._clock.now_us()),
            "Orig-Stream": stream,
            "Orig-Seq": str(delivery.stream_seq),
            "Orig-Subject": delivery.subject,
            "Orig-Msg-Id": delivery.message_id,
            "Orig-Type": delivery.type,
            "Replay-Count": replays,
        }
        if delivery.traceparent:
            headers["traceparent"] = delivery.traceparent
        message = OutMessage(
            subject=f"dlq.v1.{self._service}.{consumer}",
            payload=delivery.data,
            message_id=f"dlq:{consumer}:{delivery.message_id}{suffix}",
            headers=headers,
        )
        await self._bus.publish([message])


def fingerprint(consumer: str, error: str, message_type: str) -> str:
    """Groups letters that most likely have one cause; 16 hex digits."""
    return hashlib.sha256(f"{consumer}|{error}|{message_type}".encode()).hexdigest()[:16]


def header_text(text: str) -> str:
    """Printable ASCII on one line, as NATS headers need it."""
    readable = "".join(character if character.isprintable() else " " for character in text)
    flat = " ".join(readable.split())[:MAX_ERROR_CHARACTERS]
    return flat.encode("ascii", "backslashreplace").decode("ascii")
