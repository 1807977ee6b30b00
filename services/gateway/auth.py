"""Who is calling: one door for HTTP, WebSocket and Basic credentials.

A credential is looked up once and remembered for a few seconds. Announcements of the accounts
stream drop what they make untrue at once, on every replica; the seconds are the backstop.
"""

import asyncio
import base64
import binascii
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Final
from uuid import UUID

import msgspec

from chassis.clock import Clock
from chassis.errors import Forbidden
from chassis.identity import Principal
from chassis.postgres import Pool, connection
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement
from services.gateway.domain import SCOPES, parse_key
from services.gateway.store import credentials
from services.gateway.store.credentials import Credential
from services.gateway.tokens import BadCredential, TokenMint
from services.gateway.usage import Usage

REMEMBERED: Final = 10_000
LOCKS: Final = 64


class Caller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A verified caller.

    `is_person` tells somebody who signed in from a machine with an API key. `expires_at_us` is
    when the credential ends by itself, 0 for never.
    """

    principal: Principal
    is_person: bool
    expires_at_us: int

    def require_person(self) -> None:
        """Raises Forbidden for API keys: accounts are people's business."""
        if not self.is_person:
            raise Forbidden("An API key can't do this; sign in with a password.")

    def require_admin(self) -> None:
        """Raises Forbidden for API keys and below admin."""
        self.require_person()
        self.principal.require_role("admin")


def credential_in(headers: Mapping[str, str]) -> str:
    """The credential a request carries: `Authorization` (Bearer or Basic), else `X-API-Key`.

    Of Basic it is the password, or the user name when there is no password. `headers` has lower
    case names.

    Raises:
        BadCredential: there is none, or Authorization can't be read.
    """
    value = headers.get("authorization", "")
    scheme, _, rest = value.partition(" ")
    match scheme.lower():
        case "bearer":
            credential = rest.strip()
        case "basic":
            credential = _basic(rest.strip())
        case _:
            credential = headers.get("x-api-key", "").strip()
    if not credential:
        raise BadCredential("This needs a credential: Authorization: Bearer <token or API key>.")
    return credential


def _basic(encoded: str) -> str:
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise BadCredential("The Basic credential can't be read.") from None
    user, _, password = text.partition(":")
    return password or user


class _Known(msgspec.Struct, frozen=True, gc=False):
    caller: Caller
    fresh_until: float


class Authenticator:
    """Turns credentials into callers. An AccountsListener (see consumers.py)."""

    def __init__(
        self,
        *,
        pool: Pool,
        access_tokens: TokenMint,
        usage: Usage,
        clock: Clock,
        cache_seconds: float,
    ) -> None:
        self._pool = pool
        self._access_tokens = access_tokens
        self._usage = usage
        self._clock = clock
        self._cache_seconds = cache_seconds
        # By hash, so that a memory dump holds no secrets; oldest first, the oldest makes room.
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._of_user: dict[tuple[UUID, UUID], set[bytes]] = {}
        # Sixty requests that find the same credential stale make one query, not sixty.
        self._looking = [asyncio.Lock() for _ in range(LOCKS)]
        self._times_forgotten = 0

    async def of(self, headers: Mapping[str, str]) -> Caller:
        """The caller of a request, by its headers (lower case names).

        Raises:
            BadCredential: as `authenticate`, or there is none.
        """
        return await self.authenticate(credential_in(headers))

    async def authenticate(self, credential: str) -> Caller:
        """The holder of an access token or API key.

        Raises:
            BadCredential: it is unknown, expired or revoked, or its holder is suspended.
            Unavailable: the database did not answer.
        """
        digest = sha256(credential.encode("utf-8", "surrogatepass")).digest()
        if caller := self._remembered(digest):
            return caller
        async with self._looking[digest[0] % LOCKS]:
            if caller := self._remembered(digest):
                return caller
            times_forgotten = self._times_forgotten
            caller = await self._look_up(credential)
            # What was announced during the query may not be in its answer.
            if times_forgotten == self._times_forgotten:
                self._remember(digest, caller)
            return caller

    async def recheck(self, org_id: UUID, user_id: UUID, credential_id: UUID) -> Caller:
        """The holder of a sign-in or API key as they are now, for what was authenticated before.

        Raises:
            BadCredential: as `authenticate`.
            Unavailable: the database did not answer.
        """
        async with connection(self._pool) as conn:
            found = await credentials.find(conn, org_id, credential_id)
        if found is None or found.user_id != user_id:
            raise BadCredential
        return self._accept(found)

    def heard(self, fact: AccountsAnnouncement) -> None:
        """Drops what an announcement makes untrue."""
        kind = fact.WhichOneof("fact")
        if kind is not None:
            about = getattr(fact, kind)
            self.forget(UUID(about.org_id), UUID(about.user_id))

    def missed(self) -> None:
        """Announcements may have been missed: everything is looked up again."""
        self._times_forgotten += 1
        self._known.clear()
        self._of_user.clear()

    def forget(self, org_id: UUID, user_id: UUID) -> None:
        """Drops what is remembered of one person in one organization."""
        self._times_forgotten += 1
        for digest in self._of_user.pop((org_id, user_id), ()):
            self._known.pop(digest, None)

    def _remembered(self, digest: bytes) -> Caller | None:
        known = self._known.get(digest)
        if known is None or known.fresh_until <= self._clock.monotonic():
            return None
        ends = known.caller.expires_at_us
        return None if ends and ends <= self._clock.now_us() else known.caller

    def _remember(self, digest: bytes, caller: Caller) -> None:
        principal = caller.principal
        self._known[digest] = _Known(caller, self._clock.monotonic() + self._cache_seconds)
        self._known.move_to_end(digest)
        self._of_user.setdefault((principal.org_id, principal.user_id), set()).add(digest)
        if len(self._known) > REMEMBERED:
            oldest, known = self._known.popitem(last=False)
            holder = (known.caller.principal.org_id, known.caller.principal.user_id)
            self._of_user[holder].discard(oldest)
            if not self._of_user[holder]:
                del self._of_user[holder]

    async def _look_up(self, credential: str) -> Caller:
        if key := parse_key(credential):
            async with connection(self._pool) as conn:
                found = await credentials.find_by_prefix(conn, key.prefix)
            for candidate in found:
                if hmac.compare_digest(candidate.secret_hash, key.secret_hash):
                    caller = self._accept(candidate)
                    self._usage.key_used(candidate.org_id, candidate.credential_id)
                    return caller
            raise BadCredential
        subject = self._access_tokens.read(credential)
        caller = await self.recheck(subject.org_id, subject.user_id, subject.credential_id)
        ends = min(subject.expires_at_us, caller.expires_at_us or subject.expires_at_us)
        return msgspec.structs.replace(caller, expires_at_us=ends)

    def _accept(self, found: Credential) -> Caller:
        is_over = found.expires_at_us and found.expires_at_us <= self._clock.now_us()
        if found.is_revoked or not found.is_active or is_over:
            raise BadCredential
        principal = Principal(
            org_id=found.org_id,
            user_id=found.user_id,
            role=found.role,
            scopes=SCOPES if found.is_person else found.scopes,
            credential_id=str(found.credential_id),
        )
        return Caller(
            principal=principal, is_person=found.is_person, expires_at_us=found.expires_at_us
        )
