"""Leaving: everything about a person is removed here, and every service is told to do the same."""

from chassis.errors import Conflict
from chassis.postgres import Pool, connection
from services.gateway.accounts.ledger import Actor, Entry, Ledger
from services.gateway.auth import Caller
from services.gateway.domain import Member
from services.gateway.passwords import Passwords
from services.gateway.store import invitations, people, upkeep
from services.gateway.tokens import BadCredential


class Erasure:
    """Erases people."""

    def __init__(self, *, ledger: Ledger, pool: Pool, passwords: Passwords) -> None:
        self._ledger = ledger
        self._pool = pool
        self._passwords = passwords

    async def erase_me(self, caller: Caller, *, password: str) -> None:
        """Erases the caller from every organization; one without other members goes with them.

        Raises:
            BadCredential: the password is wrong.
            Forbidden: the caller is a key.
            Conflict: an organization would be left without an owner.
        """
        caller.require_person()
        user_id = caller.principal.user_id
        async with connection(self._pool) as conn:
            user = await people.get_user(conn, user_id)
        if user is None or not await self._passwords.verify(password, user.password_hash):
            raise BadCredential("The password is wrong.")
        async with self._ledger.begin() as entry:
            memberships = await people.memberships_of(entry.conn, user_id)
            # In order of the id, so that two who leave never wait for one another in a circle.
            for member in sorted(memberships, key=lambda m: m.org_id):
                await self._leave(entry, member)
            await invitations.forget_address(entry.conn, user.email)
            await people.remove_user(entry.conn, user_id)

    async def _leave(self, entry: Entry, member: Member) -> None:
        org_id, user_id = member.org_id, member.user_id
        await people.lock_organization(entry.conn, org_id)
        others = await people.count_other_members(entry.conn, org_id, user_id)
        owners = await people.count_other_owners(entry.conn, org_id, user_id)
        if member.role == "owner" and others and not owners:
            raise Conflict("You are the last owner of an organization; make somebody else one.")
        entry.user_erased(org_id, user_id)
        entry.credential_revoked(org_id, user_id)
        await entry.note(Actor(org_id, user_id, ""), "person.erased", user_id)
        await upkeep.forget_answers_of(entry.conn, org_id, user_id)
        await invitations.revoke_by(entry.conn, org_id, user_id, now_us=entry.now_us)
        await people.remove_member(entry.conn, org_id, user_id)
        if not others:
            await people.remove_organization(entry.conn, org_id)
