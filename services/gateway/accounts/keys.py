"""API keys: made by a person, acting as them, within scopes."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from chassis.errors import Conflict, Invalid, NotFound
from chassis.ids import new_id
from chassis.postgres import Pool, connection
from services.gateway.accounts.ledger import Actor, Ledger
from services.gateway.accounts.opaque import new_key
from services.gateway.auth import Caller
from services.gateway.domain import SCOPES, APIKey
from services.gateway.store import credentials

# More than anyone has agents; a loop that makes keys ends here.
MAX_LIVE_KEYS: Final = 100
# The year 9999: an offset may push what is later past what a datetime can say.
END_OF_TIME_US: Final = 253_370_764_800_000_000


class Keys:
    """Makes, lists and revokes API keys."""

    def __init__(self, *, ledger: Ledger, pool: Pool) -> None:
        self._ledger = ledger
        self._pool = pool

    async def make(
        self,
        caller: Caller,
        *,
        name: str,
        scopes: Collection[str],
        expires_at_us: int,
        is_uuid: bool,
    ) -> tuple[APIKey, str]:
        """A new key and its text, which is shown once; `expires_at_us` 0 means never.

        Raises:
            Forbidden: the caller is a key.
            Invalid: no scopes, unknown ones, or an end that has passed or is too far away.
            Conflict: the person has too many keys.
        """
        caller.require_person()
        by = caller.principal
        if not scopes or not set(scopes) <= SCOPES:
            raise Invalid.field("scopes", f"must be some of {', '.join(sorted(SCOPES))}")
        text, parsed = new_key(is_uuid=is_uuid)
        async with self._ledger.begin() as entry:
            if expires_at_us and expires_at_us <= entry.now_us:
                raise Invalid.field("expires_at", "must be in the future")
            if expires_at_us >= END_OF_TIME_US:
                raise Invalid.field("expires_at", "must be before the year 9999")
            held = await credentials.count_live_keys(entry.conn, by.org_id, by.user_id)
            if held >= MAX_LIVE_KEYS:
                raise Conflict(f"You have {held} keys; revoke one first.")
            key = APIKey(
                key_id=new_id(),
                user_id=by.user_id,
                name=name,
                prefix=parsed.prefix,
                scopes=tuple(sorted(set(scopes))),
                created_at_us=entry.now_us,
                expires_at_us=expires_at_us,
                revoked_at_us=0,
                last_used_us=0,
            )
            await credentials.add_key(entry.conn, by.org_id, key, secret_hash=parsed.secret_hash)
            await entry.note(Actor.of(by), "api_key.made", key.key_id, scopes=list(key.scopes))
        return key, text

    async def list_keys(
        self, caller: Caller, *, user_id: UUID | None, before: UUID, limit: int
    ) -> list[APIKey]:
        """The caller's keys, or for admins those of `user_id`; newest first, revoked included.

        Raises:
            Forbidden: the caller is a key, or not an admin asking about somebody else.
        """
        caller.require_person()
        by = caller.principal
        if user_id not in {None, by.user_id}:
            by.require_role("admin")
        async with connection(self._pool) as conn:
            return await credentials.list_keys(
                conn, by.org_id, user_id or by.user_id, before=before, limit=limit
            )

    async def revoke(self, caller: Caller, key_id: UUID) -> None:
        """Ends a key of the caller's, or for admins anybody's; one that is over stays over.

        Raises:
            Forbidden: the caller is a key.
            NotFound: no such key in this organization, or not theirs.
        """
        caller.require_person()
        by = caller.principal
        owner = None if by.is_at_least("admin") else by.user_id
        async with self._ledger.begin() as entry:
            if not await credentials.knows_key(entry.conn, by.org_id, key_id, owner=owner):
                raise NotFound("There is no such key.")
            holder = await credentials.revoke_key(
                entry.conn, by.org_id, key_id, owner=owner, at_us=entry.now_us
            )
            if holder is not None:
                entry.credential_revoked(by.org_id, holder, key_id)
                await entry.note(Actor.of(by), "api_key.revoked", key_id)
