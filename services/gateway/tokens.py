"""Signed tokens that others hold: access tokens, and short-lived ones of other audiences.

None of them can pass for an internal token, nor the other way round: audiences differ.
"""

from typing import Any, Final
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.clock import MICROSECONDS, Clock
from chassis.errors import Forbidden
from chassis.identity import ALGORITHM
from chassis.ids import new_id

ACCESS_AUDIENCE: Final = "timeloom"
TICKET_AUDIENCE: Final = "timeloom-ticket"
_REQUIRED: Final = ["exp", "jti", "org", "sub", "cred"]


class BadCredential(Forbidden):
    """The credential is missing, unknown, expired or revoked."""


class Subject(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whom a token stands for. `credential_id` is the sign-in or API key it was made from."""

    org_id: UUID
    user_id: UUID
    credential_id: UUID
    token_id: UUID
    expires_at_us: int


class TokenMint:
    """Makes and reads the tokens of one audience."""

    def __init__(
        self, *, key: Ed25519PrivateKey, clock: Clock, audience: str, seconds: float
    ) -> None:
        self._key = key
        self._public_key = key.public_key()
        self._clock = clock
        self._audience = audience
        self._seconds = seconds

    def make(self, *, org_id: UUID, user_id: UUID, credential_id: UUID) -> str:
        """A new token."""
        now = self._clock.now_us() // MICROSECONDS
        claims = {
            "aud": self._audience,
            "iat": now,
            "exp": now + round(self._seconds),
            "jti": str(new_id()),
            "org": str(org_id),
            "sub": str(user_id),
            "cred": str(credential_id),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def read(self, token: str) -> Subject:
        """Whom it stands for.

        Raises:
            BadCredential: it is not ours, for another audience, or over.
        """
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._public_key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                # Time is the Clock's; PyJWT would read the machine's.
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
            )
            subject = Subject(
                org_id=UUID(claims["org"]),
                user_id=UUID(claims["sub"]),
                credential_id=UUID(claims["cred"]),
                token_id=UUID(claims["jti"]),
                expires_at_us=int(claims["exp"]) * MICROSECONDS,
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError) as error:
            raise BadCredential("The token is not valid.") from error
        if subject.expires_at_us <= self._clock.now_us():
            raise BadCredential("The token has expired.")
        return subject
