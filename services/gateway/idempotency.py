"""Idempotency-Key: a write that is sent again gets the answer it got before, for 24 hours.

Only success is remembered: what failed did nothing and may be tried again. Posting events needs
none of this, since events have identities of their own. A process that dies between doing and
remembering leaves a claim, which holds the key for a minute.
"""

import base64
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from litestar.types import ASGIApp

from chassis.clock import MICROSECONDS, Clock
from chassis.errors import AppError, Conflict, Invalid, Unavailable
from chassis.identity import Principal
from chassis.log import get_logger
from chassis.postgres import Pool, connection
from services.gateway import problems
from services.gateway.auth import Authenticator
from services.gateway.bodies import read_body
from services.gateway.store import idempotency
from services.gateway.store.idempotency import Place
from services.gateway.tokens import BadCredential

log = get_logger(__name__)

HEADER: Final = b"idempotency-key"
METHODS: Final = frozenset({"POST", "PATCH", "PUT", "DELETE"})
KEEP_US: Final = 24 * 3600 * MICROSECONDS
ABANDONED_US: Final = 60 * MICROSECONDS
# Beyond this an answer is not kept; none of ours comes near.
MAX_ANSWER_BYTES: Final = 256 * 1024
_KEY: Final = re.compile(r"[!-~]{1,255}")


class Kept(msgspec.Struct, frozen=True):
    """An answer as it was given."""

    content_type: str
    body: bytes


class Seal:
    """Encrypts answers, which may hold secrets, under a key derived from the signing key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        derive = HKDF(SHA256(), length=32, salt=None, info=b"timeloom idempotency answers")
        derived = derive.derive(key.private_bytes_raw())
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))

    def close(self, answer: Kept) -> bytes:
        """The answer as it is kept."""
        return self._fernet.encrypt(msgspec.msgpack.encode(answer))

    def open(self, sealed: bytes) -> Kept | None:
        """The answer as it was given; None when the signing key was another one."""
        try:
            return msgspec.msgpack.decode(self._fernet.decrypt(sealed), type=Kept)
        except InvalidToken:
            return None


class Idempotency:
    """Stands before the application; requests without the header pass through."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticator: Authenticator,
        pool: Pool,
        clock: Clock,
        seal: Seal,
        body_limit_bytes: int,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._pool = pool
        self._clock = clock
        self._seal = seal
        self._body_limit_bytes = body_limit_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection."""
        key = _key_in(scope) if scope["type"] == "http" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._once(key, scope, receive, send)
        except BadCredential:
            # The application says so in its own words, and counts it.
            await self._app(scope, receive, send)
        except AppError as error:
            await problems.send(error, send)

    async def _once(self, key: bytes, scope: Any, receive: Any, send: Any) -> None:
        if not _KEY.fullmatch(key.decode("latin-1")):
            raise Invalid.field("Idempotency-Key", "must be 1 to 255 printable characters")
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        caller = await self._authenticator.of(headers)
        body = await read_body(receive, self._body_limit_bytes)
        place = _place(caller.principal, key)
        asked = sha256(f"{scope['method']} {scope['path']}\n".encode() + body).digest()
        if not await self._claim(place, asked):
            await self._replay(place, asked, send)
            return
        answer = _Answer(send)
        try:
            await self._app(scope, _replaying(body, receive), answer.send)
        finally:
            await self._settle(place, answer)

    async def _claim(self, place: Place, asked: bytes) -> bool:
        now_us = self._clock.now_us()
        async with connection(self._pool) as conn:
            return await idempotency.claim(
                conn,
                place,
                asked,
                now_us=now_us,
                abandoned_before_us=now_us - ABANDONED_US,
                forgotten_before_us=now_us - KEEP_US,
            )

    async def _replay(self, place: Place, asked: bytes, send: Any) -> None:
        async with connection(self._pool) as conn:
            known = await idempotency.get(conn, place)
        if known is None or not known.status:
            raise Conflict("A request with this Idempotency-Key is still running.")
        if known.request_hash != asked:
            raise Invalid.field("Idempotency-Key", "was used for another request")
        kept = self._seal.open(known.answer)
        if kept is None:
            raise Conflict("The answer to this Idempotency-Key can't be read any more.")
        headers = {"content-type": kept.content_type, "idempotency-replayed": "true"}
        await problems.send_answer(send, known.status, kept.body, headers)

    async def _settle(self, place: Place, answer: "_Answer") -> None:
        kept = answer.kept()
        try:
            async with connection(self._pool) as conn:
                if kept is None:
                    await idempotency.release(conn, place)
                else:
                    await idempotency.keep(conn, place, answer.status, self._seal.close(kept))
        except Unavailable as error:
            # The answer is on its way already; the claim lapses by itself.
            log.warning("idempotency.not_settled", error=str(error))


class _Answer:
    """Sees an answer pass by."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self.status = 0
        self._content_type = ""
        self._body = bytearray()
        self._is_whole = False

    async def send(self, message: Any) -> None:
        """Passes it on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = dict(message.get("headers", ()))
            self._content_type = headers.get(b"content-type", b"").decode("latin-1")
        elif message["type"] == "http.response.body":
            if len(self._body) <= MAX_ANSWER_BYTES:
                self._body += message.get("body", b"")
            self._is_whole = not message.get("more_body", False)
        await self._send(message)

    def kept(self) -> Kept | None:
        """What to remember; None for anything but a whole success."""
        if not self._is_whole or self.status >= 300 or len(self._body) > MAX_ANSWER_BYTES:
            return None
        return Kept(self._content_type, bytes(self._body))


def _key_in(scope: Mapping[str, Any]) -> bytes | None:
    """The key, where it means something."""
    if scope["method"] not in METHODS or not scope["path"].startswith("/v1/"):
        return None
    if scope["path"] == "/v1/events":
        return None
    for name, value in scope["headers"]:
        if name == HEADER:
            return bytes(value)
    return None


def _place(principal: Principal, key: bytes) -> Place:
    return Place(
        org_id=principal.org_id,
        user_id=principal.user_id,
        credential_id=principal.credential_id,
        key_hash=sha256(key).digest(),
    )


def _replaying(body: bytes, receive: Any) -> Any:
    """A `receive` that gives the body that was read already."""
    is_given = False

    async def again() -> Any:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
