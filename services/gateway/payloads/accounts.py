"""Accounts as the public interface says them."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

import msgspec

from services.gateway.accounts.people import Me
from services.gateway.accounts.sign_in import Session
from services.gateway.domain import (
    APIKey,
    AuditEntry,
    Device,
    Invitation,
    Member,
    format_day_start,
)
from services.gateway.payloads.text import Email, GivenPassword, Name, Password, Token
from services.gateway.payloads.times import instant, instant_or_none
from services.gateway.store.people import Person

Role = Literal["guest", "member", "manager", "admin", "owner"]
Scope = Literal["events:write", "jobs:write", "read"]
Days = Annotated[int, msgspec.Meta(ge=1, le=365)]
DayStart = Annotated[str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
ZoneName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class RegisterRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new organization and its owner."""

    email: Email
    password: Password
    name: Name
    organization_name: Name


class LoginRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`organization_id` chooses among several organizations; without it, the oldest."""

    email: Email
    password: GivenPassword
    organization_id: UUID | None = None


class RefreshRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A refresh token is good once."""

    refresh_token: Token


class LogoutRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`everywhere` ends every sign-in of the person."""

    everywhere: bool = False


class ChangeMeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is absent stays."""

    name: Name | None = None
    time_zone: ZoneName | None = None
    day_start: DayStart | None = None


class EraseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Erasure is confirmed by the password."""

    password: GivenPassword


class ChangeUserRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is absent stays."""

    role: Role | None = None
    suspended: bool | None = None


class InviteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`guest_days` is how long a guest may stay."""

    email: Email
    role: Role = "member"
    guest_days: Days | None = None


class AcceptRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`password` is a new one, or that of the account the address has."""

    token: Token
    name: Name
    password: Password


class MakeKeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`format` uuid is for agents that take nothing else; such a key is as secret as any."""

    name: Name
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=3)]
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    format: Literal["tl", "uuid"] = "tl"


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A member; `expires_at` is set for guests."""

    id: UUID
    email: str
    name: str
    role: str
    status: str
    time_zone: str
    day_start: str
    created_at: str
    expires_at: str | None

    @classmethod
    def of(cls, person: Person) -> Self:
        """From the store."""
        return cls.from_parts(person.member, person.email)

    @classmethod
    def from_parts(cls, member: Member, email: str) -> Self:
        """From a membership and the address that goes with it."""
        return cls(
            id=member.user_id,
            email=email,
            name=member.name,
            role=member.role,
            status="active" if member.is_active else "suspended",
            time_zone=member.time_zone,
            day_start=format_day_start(member.day_start_minutes),
            created_at=instant(member.created_at_us),
            expires_at=instant_or_none(member.expires_at_us),
        )


class OrganizationReply(msgspec.Struct, frozen=True, kw_only=True):
    """An organization."""

    id: UUID
    name: str


class MeReply(msgspec.Struct, frozen=True, kw_only=True):
    """The caller and where they are signed in."""

    user: User
    organization: OrganizationReply

    @classmethod
    def of(cls, me: Me) -> Self:
        """From what People says."""
        place = OrganizationReply(id=me.person.member.org_id, name=me.organization_name)
        return cls(user=User.of(me.person), organization=place)


class SignedInReply(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody holds after signing in; `expires_in` is seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: User
    organization: OrganizationReply

    @classmethod
    def of(cls, session: Session) -> Self:
        """From what SignIn says."""
        member = session.member
        return cls(
            access_token=session.access_token,
            refresh_token=session.refresh_token,
            expires_in=session.expires_in_seconds,
            user=User.from_parts(member, session.email),
            organization=OrganizationReply(id=member.org_id, name=session.organization_name),
        )


class InvitationReply(msgspec.Struct, frozen=True, kw_only=True):
    """`state` is open, accepted, revoked or expired; `token` is only in the answer that made it."""

    id: UUID
    email: str
    role: str
    state: str
    invited_by: UUID
    created_at: str
    expires_at: str
    guest_until: str | None
    token: str | None

    @classmethod
    def of(cls, invitation: Invitation, token: str | None = None) -> Self:
        """From the domain."""
        return cls(
            id=invitation.invitation_id,
            email=invitation.email,
            role=invitation.role,
            state=invitation.state,
            invited_by=invitation.invited_by,
            created_at=instant(invitation.created_at_us),
            expires_at=instant(invitation.expires_at_us),
            guest_until=instant_or_none(invitation.guest_until_us),
            token=token,
        )


class KeyReply(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is the secret, only in the answer that made it."""

    id: UUID
    user_id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    key: str | None

    @classmethod
    def of(cls, key: APIKey, text: str | None = None) -> Self:
        """From the domain."""
        return cls(
            id=key.key_id,
            user_id=key.user_id,
            name=key.name,
            prefix=key.prefix,
            scopes=list(key.scopes),
            created_at=instant(key.created_at_us),
            expires_at=instant_or_none(key.expires_at_us),
            revoked_at=instant_or_none(key.revoked_at_us),
            last_used_at=instant_or_none(key.last_used_us),
            key=text,
        )


class DeviceReply(msgspec.Struct, frozen=True, kw_only=True):
    """`device_id` is what the agent calls itself; `key` is how we do."""

    device_id: str
    key: UUID
    name: str
    kind: str
    first_seen_at: str
    last_seen_at: str

    @classmethod
    def of(cls, device: Device) -> Self:
        """From the domain."""
        return cls(
            device_id=device.client_id,
            key=device.device_id,
            name=device.name,
            kind=device.kind,
            first_seen_at=instant(device.first_seen_us),
            last_seen_at=instant(device.last_seen_us),
        )


class AuditReply(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what to whom."""

    id: UUID
    at: str
    actor_id: UUID
    credential_id: str
    action: str
    target: str
    detail: dict[str, object]

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """From the domain."""
        return cls(
            id=entry.entry_id,
            at=instant(entry.at_us),
            actor_id=entry.actor_id,
            credential_id=entry.credential_id,
            action=entry.action,
            target=entry.target,
            detail=entry.detail,
        )
