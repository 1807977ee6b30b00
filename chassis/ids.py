"""The only source of random ids. UUIDv7 (RFC 9562): sorted by creation, so indexes stay warm."""

import os
import secrets
import time
from typing import Final
from uuid import UUID

_VERSION_7: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
# A clock that was set back further than this no longer holds the order up.
MAX_LEAD_NS: Final = 10_000_000_000

_last_tick = 0


def new_id() -> UUID:
    """A UUIDv7; ids of one process sort in the order they were made.

    The 12 bits after the milliseconds are the fraction of the millisecond (RFC 9562 §6.2, method
    3), moved on by one when the clock did not; 62 bits are random.
    """
    global _last_tick  # noqa: PLW0603  # the order of a process is the state of a process
    now_ns = time.time_ns()
    tick = (now_ns // 1_000_000 << 12) | (now_ns % 1_000_000 << 12) // 1_000_000
    lead = _last_tick - tick
    if 0 <= lead < (MAX_LEAD_NS // 1_000_000 << 12):
        tick = _last_tick + 1
    _last_tick = tick
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=(tick >> 12 << 80) | _VERSION_7 | (tick & 0xFFF) << 64 | _VARIANT | random)


def new_secret(length_bytes: int = 24) -> str:
    """An unguessable URL-safe text."""
    return secrets.token_urlsafe(length_bytes)
