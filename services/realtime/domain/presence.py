"""Leases of connections and what they add up to. The arithmetic itself is in lua/settle.lua."""

import re
from typing import Final, NamedTuple, Protocol
from uuid import UUID

import msgspec

from chassis.errors import Invalid, Violation

# By rank: a person is the highest of their connections. Away is a hidden page of someone who may
# be at work elsewhere; idle is nobody at the keys.
STATES: Final = ("offline", "idle", "away", "online")
MAX_LEASES: Final = 5000
_CONNECTION_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class Lease(NamedTuple):
    """One live connection of one person."""

    org_id: UUID
    user_id: UUID
    connection_id: str
    state: str


class Presence(msgspec.Struct, frozen=True):
    """One person over all connections. `since_us`: when this began; later is newer."""

    user_id: UUID
    state: str
    connections: int
    since_us: int


class Change(NamedTuple):
    """Something to announce about an organization.

    `presence` None: the store of leases was found empty at `since_us`.
    """

    org_id: UUID
    presence: Presence | None
    since_us: int


class LeaseTexts(Protocol):
    """A lease as it came in."""

    org_id: str
    user_id: str
    connection_id: str
    state: str


def parse_lease(path: str, lease: LeaseTexts, *, is_closed: bool = False) -> Lease:
    """The lease, with ids that are safe in keys; the state of a closed one does not matter.

    Raises:
        Invalid: names every wrong field below `path`.
    """
    org_id, user_id = _uuid(lease.org_id), _uuid(lease.user_id)
    wrong = []
    if org_id is None:
        wrong.append(Violation(f"{path}.org_id", "must be a UUID"))
    if user_id is None:
        wrong.append(Violation(f"{path}.user_id", "must be a UUID"))
    if not _CONNECTION_ID.fullmatch(lease.connection_id):
        wrong.append(Violation(f"{path}.connection_id", "must be 1 to 64 of A–Z a–z 0–9 _ . : -"))
    if not is_closed and lease.state not in STATES[1:]:
        wrong.append(Violation(f"{path}.state", "must be online, away or idle"))
    if wrong or org_id is None or user_id is None:
        raise Invalid("The lease is not valid.", violations=wrong)
    return Lease(org_id, user_id, lease.connection_id, "offline" if is_closed else lease.state)


def parse_user(field: str, text: str) -> UUID:
    """Raises Invalid unless `text` is a UUID."""
    user_id = _uuid(text)
    if user_id is None:
        raise Invalid.field(field, "must be a UUID")
    return user_id


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
