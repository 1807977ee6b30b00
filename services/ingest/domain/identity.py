"""What makes two reports the same event (promise P2).

A client's own id does, where it gives one. Without one, the content does: source, start in
milliseconds, state and attributes, but not the duration, so that an event that grew is still the
same (design/sessionization.md, Input).
"""

from collections.abc import Sequence
from hashlib import sha1
from itertools import repeat
from typing import Final, NamedTuple
from uuid import UUID

from services.ingest.domain.columns import ACTIVE, IDLE, POINT, Texts

# UUIDv5 namespaces (RFC 9562 §5.5). Fixed forever: another one makes every event new.
CONTENT_NAMESPACE: Final = UUID("6f0c5a2e-38b1-5d0f-9a44-71c1f6f0c9b3")
CLIENT_NAMESPACE: Final = UUID("c2b7d7d4-04f5-5b8e-8a5e-2f1de0a97c16")
_CONTENT: Final = CONTENT_NAMESPACE.bytes
_CLIENT: Final = CLIENT_NAMESPACE.bytes
_STATE: Final = ACTIVE | IDLE | POINT
_MILLISECOND_US: Final = 1000
# Byte 6 carries the version and byte 8 the variant.
_VERSION_5: Final = [bytes([byte & 0x0F | 0x50]) for byte in range(256)]
_VARIANT: Final = [bytes([byte & 0x3F | 0x80]) for byte in range(256)]


class Chosen(NamedTuple):
    """An id that the client chose. It says nothing about the start, so it needs an identity row."""

    place: int
    may_be_ours: bool
    """The client gave a UUIDv5: perhaps one that we made from content and it read back."""


def content_ids(
    source: str, start_us: Sequence[int], flags: Sequence[int], texts: Texts
) -> list[bytes]:
    """A UUIDv5 for each event, 16 bytes; the same whatever else is in the batch.

    No text holds NUL, so fields joined by it can't be mistaken for one another.
    """
    prefix = _CONTENT + source.encode() + b"\0"
    names = map(
        "\0".join,
        zip(
            [str(start // _MILLISECOND_US) for start in start_us],
            [str(flag & _STATE) for flag in flags],
            *(column or repeat("") for column in texts),
            strict=False,
        ),
    )
    return [_version_5(prefix + name.encode()) for name in names]


def chosen_id(text: str) -> tuple[bytes, bool]:
    """The 16 bytes of a client's id, and whether it was a UUID in either usual spelling."""
    digits = text.replace("-", "")
    if len(digits) == 32 and len(text) in {32, 36}:
        try:
            given = bytes.fromhex(digits)
        except ValueError:
            given = b""
        # fromhex skips white space, so the length is not certain yet.
        if len(given) == 16:
            return given, True
    return _version_5(_CLIENT + text.encode()), False


def identify(
    source: str, start_us: Sequence[int], flags: Sequence[int], texts: Texts, names: Sequence[str]
) -> tuple[list[bytes], list[Chosen]]:
    """The id of each event; `names` are the client's ids, "" where it gave none, or no entries."""
    if not any(names):
        return content_ids(source, start_us, flags, texts), []
    ids = [b""] * len(names) if all(names) else content_ids(source, start_us, flags, texts)
    chosen = []
    for index, name in enumerate(names):
        if name:
            ids[index], is_uuid = chosen_id(name)
            chosen.append(Chosen(index, is_uuid and ids[index][6] >> 4 == 5))
    return ids, chosen


def _version_5(name: bytes) -> bytes:
    digest = sha1(name, usedforsecurity=False).digest()
    return b"".join(
        (digest[:6], _VERSION_5[digest[6]], digest[7:8], _VARIANT[digest[8]], digest[9:16])
    )
