"""The only source of random ids. UUIDv7 (RFC 9562): sorted by creation, so indexes stay warm."""

import os
import secrets
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62


def new_id() -> UUID:
    """A UUIDv7; ids of one process made in different milliseconds sort by time."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    high = (random >> 62 & 0xFFF) << 64
    low = random & ((1 << 62) - 1)
    return UUID(int=(milliseconds << 80) | _VERSION_7 | high | _VARIANT | low)


def new_secret(length_bytes: int = 24) -> str:
    """An unguessable URL-safe text."""
    return secrets.token_urlsafe(length_bytes)
