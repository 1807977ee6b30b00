"""Whether those who are connected may still be, when news about that may have been lost."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol
from uuid import UUID

import msgspec

from chassis.errors import AppError, Unavailable
from chassis.log import get_logger
from services.gateway.auth import Caller
from services.gateway.payloads.live import POSITION_LOST, REVOKED
from services.gateway.seat import Seat
from services.gateway.tokens import BadCredential

log = get_logger(__name__)

TRIES: Final = 6
FIRST_WAIT_SECONDS: Final = 0.2


class Recheck(Protocol):
    """The part of auth.Authenticator that is used here."""

    def recheck(self, org_id: UUID, user_id: UUID, credential_id: UUID, /) -> Awaitable[Caller]: ...


class Proofs:
    """Looks credentials up again, one after the other: nobody waits for this."""

    def __init__(
        self, authenticator: Recheck, *, first_wait_seconds: float = FIRST_WAIT_SECONDS
    ) -> None:
        self._authenticator = authenticator
        self._first_wait_seconds = first_wait_seconds

    async def ask(
        self,
        seats_of: Callable[[UUID | None], Iterable[Seat]],
        role_changed: Callable[[Seat], None],
    ) -> None:
        """Sends away who may not stay, and whoever can't be looked up, to prove themselves anew."""
        for seat in seats_of(None):
            try:
                caller = await self._look_up(seat)
            except BadCredential:
                seat.mailbox.dismiss(REVOKED)
            except AppError as error:
                log.warning("live.not_proved", error=str(error))
                seat.mailbox.dismiss(POSITION_LOST)
            else:
                role = caller.principal.role
                if role != seat.principal.role:
                    seat.principal = msgspec.structs.replace(seat.principal, role=role)
                    role_changed(seat)

    async def _look_up(self, seat: Seat) -> Caller:
        by, wait = seat.principal, self._first_wait_seconds
        for _ in range(TRIES - 1):
            try:
                return await self._authenticator.recheck(
                    by.org_id, by.user_id, UUID(by.credential_id)
                )
            except Unavailable:
                await asyncio.sleep(wait)
                wait *= 2
        return await self._authenticator.recheck(by.org_id, by.user_id, UUID(by.credential_id))
