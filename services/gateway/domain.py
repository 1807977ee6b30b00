"""Accounts as values: members and what they may do, zone history, shapes of credentials."""

import re
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import UUID, uuid5
from zoneinfo import available_timezones

import email_validator
import msgspec

from chassis.errors import Conflict, Forbidden, Invalid
from chassis.identity import ROLES

# Scopes a machine may be given; people have all of them and their role decides the rest.
SCOPES: Final = frozenset({"events:write", "jobs:write", "read"})
DEFAULT_ZONE: Final = "UTC"
# More than any life has, and small enough to announce whole.
MAX_ZONE_PERIODS: Final = 500
MAX_DEVICE_ID_CHARACTERS: Final = 100
_DAY_START: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_KEY: Final = re.compile(r"tl_([0-9a-f]{12})_([A-Za-z0-9_-]{20,100})")

# This may run where people are called ada@timeloom.local; nothing is ever sent there.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


class ZonePeriod(msgspec.Struct, frozen=True, gc=False):
    """From an instant on (µs, UTC), a zone by its IANA name."""

    from_us: int
    time_zone: str


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One person in one organization. `expires_at_us` is 0 for those who stay."""

    org_id: UUID
    user_id: UUID
    name: str
    role: str
    is_active: bool
    revision: int
    zones: tuple[ZonePeriod, ...]
    day_start_minutes: int
    created_at_us: int
    expires_at_us: int

    @property
    def time_zone(self) -> str:
        """Where the person is now."""
        return self.zones[-1].time_zone if self.zones else DEFAULT_ZONE


def settled_zones(zones: Sequence[ZonePeriod]) -> tuple[ZonePeriod, ...]:
    """The history others are told: never empty, the first entry at the beginning of time."""
    return tuple(zones) or (ZonePeriod(0, DEFAULT_ZONE),)


def choose_zone(zones: Sequence[ZonePeriod], time_zone: str, now_us: int) -> tuple[ZonePeriod, ...]:
    """The history after a choice made now; the first choice holds for all time before it too.

    Raises:
        Invalid: there is no such zone.
        Conflict: the history is full.
    """
    if time_zone not in known_zones():
        raise Invalid.field("time_zone", "must be an IANA zone such as Europe/Rome")
    if not zones:
        return (ZonePeriod(0, time_zone),)
    if zones[-1].time_zone == time_zone:
        return tuple(zones)
    if len(zones) >= MAX_ZONE_PERIODS:
        raise Conflict(f"The zone was changed {MAX_ZONE_PERIODS} times, which is all we keep.")
    # A clock that was set back must not put the new period before the last one.
    from_us = max(now_us, zones[-1].from_us + 1)
    return (*zones, ZonePeriod(from_us, time_zone))


@cache
def known_zones() -> frozenset[str]:
    """Every IANA name this machine knows."""
    return frozenset(available_timezones())


def parse_day_start(text: str) -> int:
    """Minutes after midnight of `HH:MM`.

    Raises:
        Invalid: it is no time of day.
    """
    match = _DAY_START.fullmatch(text)
    if match is None:
        raise Invalid.field("day_start", "must be a time of day such as 04:00")
    return int(match[1]) * 60 + int(match[2])


def format_day_start(minutes: int) -> str:
    """`HH:MM`."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def parse_email(text: str) -> str:
    """The address as it is kept; letters before the @ stay as typed.

    Raises:
        Invalid: it is no address.
    """
    try:
        found = email_validator.validate_email(
            text, check_deliverability=False, globally_deliverable=False
        )
    except email_validator.EmailNotValidError as error:
        raise Invalid.field("email", str(error)) from None
    return found.normalized


def rank(role: str) -> int:
    """Its place in ROLES, guests first."""
    return ROLES.index(role)


class MemberChange(NamedTuple):
    """What somebody wants of another membership; None leaves things as they are."""

    role: str | None = None
    is_active: bool | None = None


def check_change(
    *, actor_id: UUID, actor_role: str, target: Member, change: MemberChange, other_owners: int
) -> None:
    """Refuses what roles do not allow; `other_owners` counts active owners besides the target.

    Raises:
        Forbidden: it reaches above the actor's own role, or is about themselves.
        Conflict: nobody would be left to own the organization, or a guest would never leave.
    """
    if actor_id == target.user_id:
        raise Forbidden("Nobody changes their own role or status.")
    if rank(target.role) > rank(actor_role):
        raise Forbidden(f"A member with the role {target.role} is above you.")
    if change.role is not None and rank(change.role) > rank(actor_role):
        raise Forbidden(f"The role {change.role} is above your own.")
    ends_ownership = change.is_active is False or change.role not in {None, "owner"}
    if target.role == "owner" and target.is_active and ends_ownership and other_owners == 0:
        raise Conflict("This is the last owner of the organization.")
    if change.role == "guest" and target.expires_at_us == 0:
        raise Conflict("A member does not become a guest; invite them as one.")


class ParsedKey(NamedTuple):
    """An API key taken apart: what it is found by, and the hash that proves it."""

    prefix: str
    secret_hash: bytes


def parse_key(text: str) -> ParsedKey | None:
    """An API key in either form, `tl_<prefix>_<secret>` or a bare UUID; None if it is neither."""
    if match := _KEY.fullmatch(text):
        return ParsedKey(match[1], hash_secret(text))
    if len(text) == 36:  # the canonical form of RFC 9562 §4
        try:
            canonical = str(UUID(text))
        except ValueError:
            return None
        return ParsedKey(canonical[:8], hash_secret(canonical))
    return None


def hash_secret(text: str) -> bytes:
    """Of a secret with at least 90 random bits, so that nothing slower than SHA-256 is needed."""
    return sha256(text.encode()).digest()


def device_key(user_id: UUID, client_id: str) -> UUID:
    """The device of one person that an agent calls `client_id`; the same on every replica."""
    return uuid5(user_id, client_id)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device by what its agent calls itself; instants in µs, UTC."""

    device_id: UUID
    user_id: UUID
    client_id: str
    name: str
    kind: str
    first_seen_us: int
    last_seen_us: int


class APIKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key without its secret; 0 where something never happened or never will."""

    key_id: UUID
    user_id: UUID
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at_us: int
    expires_at_us: int
    revoked_at_us: int
    last_used_us: int


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """An open door; `guest_until_us` is 0 unless the role is guest."""

    org_id: UUID
    invitation_id: UUID
    email: str
    role: str
    guest_until_us: int
    invited_by: UUID
    created_at_us: int
    expires_at_us: int
    state: str


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what to whom; `detail` is a JSON object without names or secrets."""

    entry_id: UUID
    at_us: int
    actor_id: UUID
    credential_id: str
    action: str
    target: str
    detail: dict[str, object]
