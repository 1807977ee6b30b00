"""/v1/me, /v1/users, /v1/invitations, /v1/api-keys, /v1/devices, /v1/audit."""

from typing import Annotated, Final
from uuid import UUID

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter

from chassis.clock import to_us
from services.gateway.accounts.devices import Devices
from services.gateway.accounts.erasure import Erasure
from services.gateway.accounts.invitations import Invitations
from services.gateway.accounts.keys import Keys
from services.gateway.accounts.people import People
from services.gateway.auth import Caller
from services.gateway.domain import MemberChange
from services.gateway.http.provide import address_of
from services.gateway.http.request import StrictRequest
from services.gateway.http.sign_in import PUBLIC
from services.gateway.payloads.accounts import (
    AcceptRequest,
    AuditReply,
    ChangeMeRequest,
    ChangeUserRequest,
    DeviceReply,
    EraseRequest,
    InvitationReply,
    InviteRequest,
    KeyReply,
    MakeKeyRequest,
    MeReply,
    SignedInReply,
    User,
)
from services.gateway.payloads.pages import (
    FIRST_ID,
    LAST_ID,
    Cursor,
    Limit,
    Page,
    coerced,
    decode_cursor,
    page_by_id,
)
from services.gateway.rate_limit import RateLimits

Whose = Annotated[
    UUID | None, QueryParameter(name="user_id", description="Somebody else, if your role allows it")
]


@get("/v1/me", tags=["accounts"])
async def get_me(caller: NamedDependency[Caller], people: NamedDependency[People]) -> MeReply:
    """Says who you are."""
    caller.principal.require_scope("read")
    return MeReply.of(await people.me(caller))


@patch("/v1/me", tags=["accounts"])
async def change_me(
    data: JSONBody[ChangeMeRequest],
    caller: NamedDependency[Caller],
    people: NamedDependency[People],
) -> MeReply:
    """Changes your name, zone or start of day; the first zone also holds for all time before."""
    me = await people.change_me(
        caller, name=data.name, time_zone=data.time_zone, day_start=data.day_start
    )
    return MeReply.of(me)


@delete("/v1/me", tags=["accounts"], status_code=204)
async def erase_me(
    data: JSONBody[EraseRequest],
    request: StrictRequest,
    caller: NamedDependency[Caller],
    erasure: NamedDependency[Erasure],
    limits: NamedDependency[RateLimits],
) -> None:
    """Erases you and everything you recorded, everywhere, for good."""
    limits.sign_in(address_of(request), str(caller.principal.user_id))
    await erasure.erase_me(caller, password=data.password)


@get("/v1/users", tags=["accounts"])
async def list_users(
    caller: NamedDependency[Caller],
    people: NamedDependency[People],
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[User]:
    """Lists members; managers and up."""
    most, after = coerced(limit), decode_cursor(cursor, start=FIRST_ID)
    found = await people.list_members(caller, after=after, limit=most + 1)
    return page_by_id(found, most, lambda person: person.member.user_id, User.of)


@patch("/v1/users/{user_id:uuid}", tags=["accounts"])
async def change_user(
    user_id: FromPath[UUID],
    data: JSONBody[ChangeUserRequest],
    caller: NamedDependency[Caller],
    people: NamedDependency[People],
) -> User:
    """Changes somebody's role, or suspends them; admins and up, never above their own role."""
    is_active = None if data.suspended is None else not data.suspended
    change = MemberChange(role=data.role, is_active=is_active)
    return User.of(await people.change_member(caller, user_id, change))


@post("/v1/invitations", tags=["accounts"])
async def invite(
    data: JSONBody[InviteRequest],
    caller: NamedDependency[Caller],
    invitations: NamedDependency[Invitations],
) -> InvitationReply:
    """Invites an address; the token is in this answer only."""
    invitation, token = await invitations.invite(
        caller, email=data.email, role=data.role, guest_days=data.guest_days
    )
    return InvitationReply.of(invitation, token)


@get("/v1/invitations", tags=["accounts"])
async def list_invitations(
    caller: NamedDependency[Caller],
    invitations: NamedDependency[Invitations],
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[InvitationReply]:
    """Lists invitations, newest first; admins and up."""
    most, before = coerced(limit), decode_cursor(cursor, start=LAST_ID)
    found = await invitations.list_invitations(caller, before=before, limit=most + 1)
    return page_by_id(found, most, lambda one: one.invitation_id, InvitationReply.of)


@delete("/v1/invitations/{invitation_id:uuid}", tags=["accounts"], status_code=204)
async def revoke_invitation(
    invitation_id: FromPath[UUID],
    caller: NamedDependency[Caller],
    invitations: NamedDependency[Invitations],
) -> None:
    """Takes an invitation back."""
    await invitations.revoke(caller, invitation_id)


@post("/v1/invitations/accept", tags=["accounts"], security=PUBLIC)
async def accept_invitation(
    data: JSONBody[AcceptRequest],
    request: StrictRequest,
    invitations: NamedDependency[Invitations],
    limits: NamedDependency[RateLimits],
) -> SignedInReply:
    """Joins an organization and signs in."""
    limits.sign_in(address_of(request), data.token[:80])
    session = await invitations.accept(token=data.token, name=data.name, password=data.password)
    return SignedInReply.of(session)


@post("/v1/api-keys", tags=["accounts"])
async def make_key(
    data: JSONBody[MakeKeyRequest], caller: NamedDependency[Caller], keys: NamedDependency[Keys]
) -> KeyReply:
    """Makes an API key; the key itself is in this answer only."""
    expires_at_us = to_us(data.expires_at) if data.expires_at else 0
    key, text = await keys.make(
        caller,
        name=data.name,
        scopes=data.scopes,
        expires_at_us=expires_at_us,
        is_uuid=data.format == "uuid",
    )
    return KeyReply.of(key, text)


@get("/v1/api-keys", tags=["accounts"])
async def list_keys(
    caller: NamedDependency[Caller],
    keys: NamedDependency[Keys],
    user_id: Whose = None,
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[KeyReply]:
    """Lists your API keys, newest first; admins may name somebody else."""
    most, before = coerced(limit), decode_cursor(cursor, start=LAST_ID)
    found = await keys.list_keys(caller, user_id=user_id, before=before, limit=most + 1)
    return page_by_id(found, most, lambda key: key.key_id, KeyReply.of)


@delete("/v1/api-keys/{key_id:uuid}", tags=["accounts"], status_code=204)
async def revoke_key(
    key_id: FromPath[UUID], caller: NamedDependency[Caller], keys: NamedDependency[Keys]
) -> None:
    """Revokes an API key: yours, or for admins anybody's."""
    await keys.revoke(caller, key_id)


@get("/v1/devices", tags=["accounts"])
async def list_devices(
    caller: NamedDependency[Caller],
    devices: NamedDependency[Devices],
    user_id: Whose = None,
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[DeviceReply]:
    """Lists the devices that reported for you; managers may name somebody else."""
    most, after = coerced(limit), decode_cursor(cursor, start=FIRST_ID)
    found = await devices.list_devices(caller, user_id=user_id, after=after, limit=most + 1)
    return page_by_id(found, most, lambda device: device.device_id, DeviceReply.of)


@get("/v1/audit", tags=["accounts"])
async def list_audit(
    caller: NamedDependency[Caller],
    people: NamedDependency[People],
    cursor: Cursor = None,
    limit: Limit = None,
) -> Page[AuditReply]:
    """Lists who did what, newest first; admins and up."""
    most, before = coerced(limit), decode_cursor(cursor, start=LAST_ID)
    found = await people.list_audit(caller, before=before, limit=most + 1)
    return page_by_id(found, most, lambda entry: entry.entry_id, AuditReply.of)


HANDLERS: Final[list[HTTPRouteHandler]] = [
    get_me,
    change_me,
    erase_me,
    list_users,
    change_user,
    invite,
    list_invitations,
    revoke_invitation,
    accept_invitation,
    make_key,
    list_keys,
    revoke_key,
    list_devices,
    list_audit,
]
