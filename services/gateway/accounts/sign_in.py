"""Signing in and out: tokens rotate, and one that is used twice ends its sign-in."""

from typing import Final
from uuid import UUID

import msgspec

from chassis.clock import MICROSECONDS
from chassis.errors import Conflict
from chassis.ids import new_id
from chassis.log import get_logger
from chassis.postgres import Pool, connection, constraints
from services.gateway.accounts.ledger import Actor, Entry, Ledger
from services.gateway.accounts.opaque import REFRESH, Opaque, new_token, read_token
from services.gateway.auth import Caller
from services.gateway.domain import Member, parse_email
from services.gateway.passwords import Passwords
from services.gateway.settings import Settings
from services.gateway.store import people, sign_ins
from services.gateway.store.people import User
from services.gateway.store.sign_ins import SignInState
from services.gateway.tokens import BadCredential, TokenMint

log = get_logger(__name__)

DAY_US: Final = 86_400 * MICROSECONDS
WRONG: Final = "The address or the password is wrong."


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody holds after signing in."""

    member: Member
    email: str
    organization_name: str
    access_token: str
    refresh_token: str
    expires_in_seconds: int


class SignIn:
    """Registers, signs in, refreshes and signs out."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        pool: Pool,
        passwords: Passwords,
        access_tokens: TokenMint,
        settings: Settings,
    ) -> None:
        self._ledger = ledger
        self._pool = pool
        self._passwords = passwords
        self._access_tokens = access_tokens
        self._access_seconds = int(settings.access_token_seconds)
        self._life_us = settings.refresh_token_days * DAY_US

    async def register(
        self, *, email: str, password: str, name: str, organization_name: str
    ) -> Session:
        """Makes an organization and its owner.

        Raises:
            Conflict: the address has an account.
        """
        address = parse_email(email)
        user = User(
            user_id=new_id(), email=address, password_hash=await self._passwords.hash(password)
        )
        org_id = new_id()
        taken = Conflict("There is an account with this address; sign in instead.")
        with constraints({"users_email_key": taken}):
            async with self._ledger.begin() as entry:
                await people.add_organization(
                    entry.conn, org_id, organization_name, at_us=entry.now_us
                )
                await people.add_user(entry.conn, user, at_us=entry.now_us)
                member = await self.join(entry, org_id, user.user_id, name=name, role="owner")
                session = await self.start(entry, member, address)
                actor = Actor(org_id, user.user_id, "")
                await entry.note(actor, "organization.registered", org_id)
        return session

    async def login(self, *, email: str, password: str, org_id: UUID | None) -> Session:
        """Signs in to one organization of the person; without `org_id`, to the oldest.

        Raises:
            BadCredential: unknown address, wrong password, or no place to sign in to.
        """
        async with connection(self._pool) as conn:
            user = await people.find_user(conn, email)
        if not await self._passwords.verify(password, user.password_hash if user else None):
            raise BadCredential(WRONG)
        if user is None:
            raise BadCredential(WRONG)
        async with self._ledger.begin() as entry:
            memberships = await people.memberships_of(entry.conn, user.user_id)
            open_to = [
                member
                for member in memberships
                if member.is_active
                and (org_id is None or member.org_id == org_id)
                and (not member.expires_at_us or member.expires_at_us > entry.now_us)
            ]
            if not open_to:
                raise BadCredential("There is no organization you may sign in to.")
            return await self.start(entry, open_to[0], user.email)

    async def refresh(self, token: str) -> Session:
        """A new pair of tokens for an unused refresh token.

        Raises:
            BadCredential: it is unknown, over, or was used before, which ends the sign-in.
        """
        claimed = read_token(REFRESH, token)
        if claimed is None:
            raise BadCredential("The refresh token is not valid.")
        session: Session | None = None
        async with self._ledger.begin() as entry:
            found = await sign_ins.lock(entry.conn, claimed.org_id, claimed.id, claimed.hash)
            if found is not None and not found.is_revoked:
                session = await self._rotate(entry, claimed, found)
        if session is None:
            raise BadCredential("The refresh token is not valid any more.")
        return session

    async def _rotate(self, entry: Entry, claimed: Opaque, found: SignInState) -> Session | None:
        org_id, family_id, token_hash = claimed
        if found.is_used:
            # Either the holder or a thief has used it before; both have to sign in again.
            await self._end(entry, org_id, found.user_id, family_id, "a token came back")
            return None
        member = await people.get_member(entry.conn, org_id, found.user_id)
        user = await people.get_user(entry.conn, found.user_id)
        is_over = found.is_used is None or found.expires_at_us <= entry.now_us
        if is_over or member is None or user is None or not member.is_active:
            return None
        now_us, ends_us = entry.now_us, entry.now_us + self._life_us
        await sign_ins.use_token(entry.conn, org_id, family_id, token_hash, now_us=now_us)
        await sign_ins.extend(entry.conn, org_id, family_id, ends_us=ends_us)
        return await self._hand_out(entry, member, user.email, family_id)

    async def logout(self, caller: Caller, *, everywhere: bool) -> None:
        """Ends the sign-in of the caller, or every one of theirs."""
        caller.require_person()
        by = caller.principal
        async with self._ledger.begin() as entry:
            if everywhere:
                await sign_ins.revoke_all(entry.conn, by.org_id, by.user_id, now_us=entry.now_us)
                entry.credential_revoked(by.org_id, by.user_id)
                await entry.note(Actor.of(by), "sign_in.all_ended", by.user_id)
            else:
                family_id = UUID(by.credential_id)
                await self._end(entry, by.org_id, by.user_id, family_id, "signed out")

    async def join(
        self,
        entry: Entry,
        org_id: UUID,
        user_id: UUID,
        *,
        name: str,
        role: str,
        expires_at_us: int = 0,
    ) -> Member:
        """Makes a membership and announces it; part of a larger transaction."""
        member = await people.add_member(
            entry.conn,
            Member(
                org_id=org_id,
                user_id=user_id,
                name=name,
                role=role,
                is_active=True,
                revision=1,
                zones=(),
                day_start_minutes=0,
                created_at_us=entry.now_us,
                expires_at_us=expires_at_us,
            ),
        )
        entry.member_changed(member)
        return member

    async def start(self, entry: Entry, member: Member, email: str) -> Session:
        """Starts a sign-in; part of a larger transaction."""
        family_id = new_id()
        await sign_ins.add(
            entry.conn,
            member.org_id,
            family_id,
            member.user_id,
            now_us=entry.now_us,
            ends_us=entry.now_us + self._life_us,
        )
        actor = Actor(member.org_id, member.user_id, str(family_id))
        await entry.note(actor, "sign_in.started", family_id)
        return await self._hand_out(entry, member, email, family_id)

    async def _hand_out(self, entry: Entry, member: Member, email: str, family_id: UUID) -> Session:
        org_id = member.org_id
        token, token_hash = new_token(REFRESH, org_id, family_id)
        await sign_ins.add_token(entry.conn, org_id, family_id, token_hash, now_us=entry.now_us)
        return Session(
            member=member,
            email=email,
            organization_name=await people.organization_name(entry.conn, org_id),
            access_token=self._access_tokens.make(
                org_id=org_id, user_id=member.user_id, credential_id=family_id
            ),
            refresh_token=token,
            expires_in_seconds=self._access_seconds,
        )

    async def _end(
        self, entry: Entry, org_id: UUID, user_id: UUID, family_id: UUID, why: str
    ) -> None:
        await sign_ins.revoke(entry.conn, org_id, family_id, now_us=entry.now_us)
        entry.credential_revoked(org_id, user_id, family_id)
        actor = Actor(org_id, user_id, str(family_id))
        await entry.note(actor, "sign_in.ended", family_id, why=why)
        log.info("sign_in.ended", org_id=str(org_id), user_id=str(user_id), why=why)
