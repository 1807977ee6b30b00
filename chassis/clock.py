"""The only reader of time; everything else is handed a Clock."""

import time
from datetime import UTC, datetime
from typing import Protocol

MICROSECONDS = 1_000_000


class Clock(Protocol):
    """Wall time for facts, monotonic time for waiting."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves when told, for tests."""

    def __init__(self, now_us: int = 1_768_790_100 * MICROSECONDS) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us

    def monotonic(self) -> float:
        return self._now_us / MICROSECONDS

    def advance(self, seconds: float) -> None:
        """Move forward, or back when negative."""
        self._now_us += round(seconds * MICROSECONDS)


def to_datetime(us: int) -> datetime:
    """The aware UTC datetime of an instant in microseconds."""
    return datetime.fromtimestamp(us // MICROSECONDS, UTC).replace(microsecond=us % MICROSECONDS)


def to_us(moment: datetime) -> int:
    """Microseconds since the Unix epoch of an aware datetime, exact."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * MICROSECONDS + delta.microseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
