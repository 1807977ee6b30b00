"""Invitations: the only way into an organization that exists."""

from uuid import UUID

from chassis.errors import Conflict, Forbidden, NotFound
from chassis.ids import new_id
from chassis.postgres import Pool, connection, constraints
from services.gateway.accounts.ledger import Actor, Entry, Ledger
from services.gateway.accounts.opaque import INVITATION, Opaque, new_token, read_token
from services.gateway.accounts.sign_in import DAY_US, Session, SignIn
from services.gateway.auth import Caller
from services.gateway.domain import Invitation, parse_email, rank
from services.gateway.passwords import Passwords
from services.gateway.settings import Settings
from services.gateway.store import invitations, people
from services.gateway.store.people import User
from services.gateway.tokens import BadCredential

OVER = "The invitation is not valid, or not any more."


class Invitations:
    """Makes, lists, takes back and accepts invitations."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        pool: Pool,
        passwords: Passwords,
        sign_in: SignIn,
        settings: Settings,
    ) -> None:
        self._ledger = ledger
        self._pool = pool
        self._passwords = passwords
        self._sign_in = sign_in
        self._settings = settings

    async def invite(
        self, caller: Caller, *, email: str, role: str, guest_days: int | None
    ) -> tuple[Invitation, str]:
        """A new invitation and its token, which is shown once.

        Raises:
            Forbidden: below admin, or the role is above the caller's own.
            Conflict: somebody with the address is a member.
        """
        caller.require_admin()
        by = caller.principal
        if rank(role) > rank(by.role):
            raise Forbidden(f"The role {role} is above your own.")
        address = parse_email(email)
        async with self._ledger.begin() as entry:
            if await people.is_member_by_email(entry.conn, by.org_id, address):
                raise Conflict("Somebody with this address is a member.")
            days = guest_days if guest_days is not None else self._settings.guest_days
            invitation = Invitation(
                org_id=by.org_id,
                invitation_id=new_id(),
                email=address,
                role=role,
                guest_until_us=entry.now_us + days * DAY_US if role == "guest" else 0,
                invited_by=by.user_id,
                created_at_us=entry.now_us,
                expires_at_us=entry.now_us + self._settings.invitation_days * DAY_US,
                state="open",
            )
            token, token_hash = new_token(INVITATION, by.org_id, invitation.invitation_id)
            await invitations.add(entry.conn, invitation, token_hash=token_hash)
            await entry.note(Actor.of(by), "invitation.made", invitation.invitation_id, role=role)
        return invitation, token

    async def list_invitations(
        self, caller: Caller, *, before: UUID, limit: int
    ) -> list[Invitation]:
        """Invitations of the organization, newest first; admins and up."""
        caller.require_admin()
        async with self._ledger.begin() as entry:
            return await invitations.list_invitations(
                entry.conn,
                caller.principal.org_id,
                before=before,
                limit=limit,
                now_us=entry.now_us,
            )

    async def revoke(self, caller: Caller, invitation_id: UUID) -> None:
        """Takes an invitation back; one that is over stays as it is.

        Raises:
            Forbidden: below admin.
            NotFound: not of this organization.
        """
        caller.require_admin()
        by = caller.principal
        async with self._ledger.begin() as entry:
            if not await invitations.is_known(entry.conn, by.org_id, invitation_id):
                raise NotFound("There is no such invitation.")
            if await invitations.revoke(entry.conn, by.org_id, invitation_id, now_us=entry.now_us):
                await entry.note(Actor.of(by), "invitation.revoked", invitation_id)

    async def accept(self, *, token: str, name: str, password: str) -> Session:
        """Joins; whoever has an account proves it with its password, others choose one.

        Raises:
            BadCredential: the token opens nothing (any more), or the password is wrong.
            Conflict: already a member.
        """
        claimed = read_token(INVITATION, token)
        if claimed is None:
            raise BadCredential(OVER)
        invitation, user = await self._look(claimed)
        is_new = user is None
        if user is None:
            user = User(
                user_id=new_id(),
                email=invitation.email,
                password_hash=await self._passwords.hash(password),
            )
        elif not await self._passwords.verify(password, user.password_hash):
            raise BadCredential("There is an account with this address; its password is another.")
        taken = {
            "users_email_key": Conflict("The address got an account just now; try again."),
            "memberships_pkey": Conflict("You are a member already."),
        }
        with constraints(taken):
            async with self._ledger.begin() as entry:
                await self._use_up(entry, invitation)
                if is_new:
                    await people.add_user(entry.conn, user, at_us=entry.now_us)
                member = await self._sign_in.join(
                    entry,
                    invitation.org_id,
                    user.user_id,
                    name=name,
                    role=invitation.role,
                    expires_at_us=invitation.guest_until_us,
                )
                return await self._sign_in.start(entry, member, user.email)

    async def _look(self, claimed: Opaque) -> tuple[Invitation, User | None]:
        async with self._ledger.begin() as entry:
            invitation = await invitations.find(
                entry.conn, claimed.org_id, claimed.id, claimed.hash, now_us=entry.now_us
            )
        if invitation is None or invitation.state != "open":
            raise BadCredential(OVER)
        async with connection(self._pool) as conn:
            return invitation, await people.find_user(conn, invitation.email)

    async def _use_up(self, entry: Entry, invitation: Invitation) -> None:
        org_id, invitation_id = invitation.org_id, invitation.invitation_id
        if not await invitations.accept(entry.conn, org_id, invitation_id, now_us=entry.now_us):
            raise BadCredential(OVER)
        actor = Actor(org_id, invitation.invited_by, "")
        await entry.note(actor, "invitation.accepted", invitation_id, role=invitation.role)
