"""Members of an organization: what they say of themselves, and what admins say of them."""

from uuid import UUID

import msgspec

from chassis.errors import NotFound
from chassis.postgres import Pool, connection
from services.gateway.accounts.ledger import Actor, Entry, Ledger
from services.gateway.auth import Caller
from services.gateway.domain import (
    AuditEntry,
    Member,
    MemberChange,
    check_change,
    choose_zone,
    parse_day_start,
    rank,
)
from services.gateway.store import audit, invitations, people, sign_ins
from services.gateway.store.people import Person


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """A person with the organization they are signed in to."""

    person: Person
    organization_name: str


class People:
    """Reads and changes memberships."""

    def __init__(self, *, ledger: Ledger, pool: Pool) -> None:
        self._ledger = ledger
        self._pool = pool

    async def me(self, caller: Caller) -> Me:
        """The caller."""
        by = caller.principal
        async with connection(self._pool) as conn:
            member = await people.get_member(conn, by.org_id, by.user_id)
            user = await people.get_user(conn, by.user_id)
            if member is None or user is None:
                raise NotFound
            name = await people.organization_name(conn, by.org_id)
        return Me(person=Person(member=member, email=user.email), organization_name=name)

    async def change_me(
        self, caller: Caller, *, name: str | None, time_zone: str | None, day_start: str | None
    ) -> Me:
        """Changes what is not None; what is the same already is not announced.

        Raises:
            Invalid: no such zone or time of day.
        """
        caller.require_person()
        by = caller.principal
        minutes = parse_day_start(day_start) if day_start is not None else None
        async with self._ledger.begin() as entry:
            before = await people.lock_member(entry.conn, by.org_id, by.user_id)
            if before is None:
                raise NotFound
            zones = before.zones
            if time_zone is not None:
                zones = choose_zone(zones, time_zone, entry.now_us)
            after = msgspec.structs.replace(
                before,
                name=name if name is not None else before.name,
                zones=zones,
                day_start_minutes=minutes if minutes is not None else before.day_start_minutes,
            )
            if after != before:
                entry.member_changed(await people.save_member(entry.conn, after))
                await entry.note(Actor.of(by), "member.changed", by.user_id)
        return await self.me(caller)

    async def list_members(self, caller: Caller, *, after: UUID, limit: int) -> list[Person]:
        """Members by id; managers and up.

        Raises:
            Forbidden: below manager.
        """
        caller.principal.require_role("manager")
        caller.principal.require_scope("read")
        async with connection(self._pool) as conn:
            return await people.list_members(
                conn, caller.principal.org_id, after=after, limit=limit
            )

    async def change_member(self, caller: Caller, user_id: UUID, change: MemberChange) -> Person:
        """Changes role or status of somebody else; suspending them ends all their sign-ins.

        Raises:
            Forbidden: below admin, above the caller's own role, or themselves.
            NotFound: not in this organization.
            Conflict: nobody would be left to own it.
        """
        caller.require_admin()
        by = caller.principal
        async with self._ledger.begin() as entry:
            await people.lock_organization(entry.conn, by.org_id)
            target = await people.lock_member(entry.conn, by.org_id, user_id)
            user = await people.get_user(entry.conn, user_id)
            if target is None or user is None:
                raise NotFound("There is no such member.")
            check_change(
                actor_id=by.user_id,
                actor_role=by.role,
                target=target,
                change=change,
                other_owners=await people.count_other_owners(entry.conn, by.org_id, user_id),
            )
            after = changed(target, change)
            if after != target:
                after = await self._save(entry, Actor.of(by), target, after)
        return Person(member=after, email=user.email)

    async def _save(self, entry: Entry, actor: Actor, before: Member, after: Member) -> Member:
        saved = await people.save_member(entry.conn, after)
        entry.member_changed(saved)
        if saved.role != before.role:
            await entry.note(
                actor, "member.role_changed", saved.user_id, before=before.role, after=saved.role
            )
        if saved.is_active != before.is_active:
            action = "member.reinstated" if saved.is_active else "member.suspended"
            await entry.note(actor, action, saved.user_id)
        if not saved.is_active:
            await cut_off(entry, saved)
        elif rank(saved.role) < rank(before.role):
            # An invitation must not give what its author may not give any more.
            await invitations.revoke_by(
                entry.conn, saved.org_id, saved.user_id, now_us=entry.now_us
            )
        return saved

    async def list_audit(self, caller: Caller, *, before: UUID, limit: int) -> list[AuditEntry]:
        """The audit log, newest first; admins and up.

        Raises:
            Forbidden: below admin.
        """
        caller.require_admin()
        async with connection(self._pool) as conn:
            return await audit.list_entries(
                conn, caller.principal.org_id, before=before, limit=limit
            )


def changed(member: Member, change: MemberChange) -> Member:
    """The membership after a change; who is no guest any more stays."""
    role = change.role if change.role is not None else member.role
    return msgspec.structs.replace(
        member,
        role=role,
        is_active=change.is_active if change.is_active is not None else member.is_active,
        expires_at_us=member.expires_at_us if role == "guest" else 0,
    )


async def cut_off(entry: Entry, member: Member) -> None:
    """Ends the sign-ins of a member who is suspended, and takes back their invitations."""
    await sign_ins.revoke_all(entry.conn, member.org_id, member.user_id, now_us=entry.now_us)
    await invitations.revoke_by(entry.conn, member.org_id, member.user_id, now_us=entry.now_us)
    entry.credential_revoked(member.org_id, member.user_id)
