"""Who is calling. The gateway signs a short-lived token; every service takes the tenant from it only."""

from collections import OrderedDict
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chassis.clock import MICROSECONDS, Clock
from chassis.errors import Forbidden

ALGORITHM: Final = "EdDSA"
INTERNAL_AUDIENCE: Final = "timeloom-internal"
# Long enough that a busy caller signs seldom, short enough that a revoked caller is out soon.
INTERNAL_TOKEN_SECONDS: Final = 60
# Verifying a signature costs about 100 µs, looking one up 1 µs.
VERIFIED_TOKENS_KEPT: Final = 10_000

ROLES: Final = ("guest", "member", "manager", "admin", "owner")


class Principal(msgspec.Struct, frozen=True, gc=False):
    """A verified caller. `user_id` is the nil UUID for a service's own calls."""

    org_id: UUID
    user_id: UUID
    role: str
    scopes: frozenset[str] = frozenset()
    # API key id or refresh family id: what to cut off when it is revoked.
    credential_id: str = ""

    def is_at_least(self, role: str) -> bool:
        """Whether the role is `role` or a higher one."""
        return self.role in ROLES and ROLES.index(self.role) >= ROLES.index(role)

    def require_role(self, role: str) -> None:
        """Raises Forbidden below `role`."""
        if not self.is_at_least(role):
            raise Forbidden(f"This needs the role {role} or a higher one.")

    def require_scope(self, scope: str) -> None:
        """Raises Forbidden without `scope`."""
        if scope not in self.scopes:
            raise Forbidden(f"This credential lacks the scope {scope}.")


SERVICE_ROLE: Final = "service"
_current: ContextVar[Principal] = ContextVar("principal")


def current_principal() -> Principal:
    """The caller of the request being served.

    Raises:
        Forbidden: outside a request, or the call carried no token.
    """
    try:
        return _current.get()
    except LookupError:
        raise Forbidden("This call carries no identity.") from None


def set_principal(principal: Principal) -> None:
    """Binds the caller to the current task."""
    _current.set(principal)


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key of a PEM file; any other kind of key is refused."""
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{path} holds no Ed25519 private key")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The Ed25519 key of a PEM file; any other kind of key is refused."""
    key = serialization.load_pem_public_key(path.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError(f"{path} holds no Ed25519 public key")
    return key


class InternalSigner:
    """Signs internal tokens; only the gateway holds the key."""

    def __init__(self, key: Ed25519PrivateKey, clock: Clock) -> None:
        self._key = key
        self._clock = clock
        self._cache: OrderedDict[Principal, tuple[str, int]] = OrderedDict()

    def token_for(self, principal: Principal) -> str:
        """A token with at least half its life left; the same one while it lasts."""
        now = self._clock.now_us() // MICROSECONDS
        cached = self._cache.get(principal)
        if cached and cached[1] - now > INTERNAL_TOKEN_SECONDS // 2:
            return cached[0]
        expires = now + INTERNAL_TOKEN_SECONDS
        claims = {
            "aud": INTERNAL_AUDIENCE,
            "exp": expires,
            "org": str(principal.org_id),
            "sub": str(principal.user_id),
            "role": principal.role,
            "scopes": sorted(principal.scopes),
            "cred": principal.credential_id,
        }
        token = jwt.encode(claims, self._key, algorithm=ALGORITHM)
        self._cache[principal] = (token, expires)
        if len(self._cache) > VERIFIED_TOKENS_KEPT:
            self._cache.popitem(last=False)
        return token


class InternalVerifier:
    """Verifies internal tokens and remembers the ones it has seen until they expire."""

    def __init__(self, key: Ed25519PublicKey, clock: Clock) -> None:
        self._key = key
        self._clock = clock
        self._cache: OrderedDict[str, tuple[Principal, int]] = OrderedDict()

    def verify(self, token: str) -> Principal:
        """The caller a token stands for.

        Raises:
            Forbidden: the token is not ours, is for another audience, or has expired.
        """
        now = self._clock.now_us() // MICROSECONDS
        cached = self._cache.get(token)
        if cached is None:
            cached = self._verify_signature(token)
            self._cache[token] = cached
            if len(self._cache) > VERIFIED_TOKENS_KEPT:
                self._cache.popitem(last=False)
        if cached[1] <= now:
            self._cache.pop(token, None)
            raise Forbidden("The internal token has expired.")
        return cached[0]

    def _verify_signature(self, token: str) -> tuple[Principal, int]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=INTERNAL_AUDIENCE,
                # Expiry is checked against our own clock on every use, cached or not.
                options={"require": ["exp", "org", "sub", "role"], "verify_exp": False},
            )
            principal = Principal(
                org_id=UUID(claims["org"]),
                user_id=UUID(claims["sub"]),
                role=claims["role"],
                scopes=frozenset(claims.get("scopes", ())),
                credential_id=claims.get("cred", ""),
            )
        except (jwt.InvalidTokenError, ValueError, KeyError) as error:
            raise Forbidden("The internal token is not valid.") from error
        return principal, int(claims["exp"])
