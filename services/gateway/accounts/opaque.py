"""Opaque tokens, shown once and kept as hashes: refresh tokens, invitations, API keys.

The first two are `<kind>_<organization and id in hex>_<secret>`: where one belongs can be read from
it, so that finding it is one look at a primary key.
"""

import re
from base64 import urlsafe_b64decode
from typing import Final, NamedTuple
from uuid import UUID

from chassis.ids import new_id, new_secret
from services.gateway.domain import ParsedKey, hash_secret, parse_key

REFRESH: Final = "tlr"
INVITATION: Final = "tli"
SECRET_BYTES: Final = 32
_SHAPE: Final = re.compile(r"(tlr|tli)_([0-9a-f]{32})([0-9a-f]{32})_[A-Za-z0-9_-]{43}")


class Opaque(NamedTuple):
    """A token taken apart: where it belongs, and the hash that proves it."""

    org_id: UUID
    id: UUID
    hash: bytes


def new_token(kind: str, org_id: UUID, id_: UUID) -> tuple[str, bytes]:
    """A new token and its hash."""
    text = f"{kind}_{org_id.hex}{id_.hex}_{new_secret(SECRET_BYTES)}"
    return text, hash_secret(text)


def read_token(kind: str, text: str) -> Opaque | None:
    """A token taken apart; None if it has another shape. Nothing is proven yet."""
    match = _SHAPE.fullmatch(text)
    if match is None or match[1] != kind:
        return None
    return Opaque(UUID(match[2]), UUID(match[3]), hash_secret(text))


def new_key(*, is_uuid: bool) -> tuple[str, ParsedKey]:
    """A new API key and what is kept of it; a bare UUIDv4 for agents that take nothing else."""
    if is_uuid:
        text = str(UUID(bytes=urlsafe_b64decode(new_secret(16) + "=="), version=4))
    else:
        # The last digits of a UUIDv7 are random; the prefix only has to be rare.
        text = f"tl_{new_id().hex[-12:]}_{new_secret(SECRET_BYTES)}"
    parsed = parse_key(text)
    if parsed is None:
        raise AssertionError("a new key has a known shape")
    return text, parsed
