"""Tickets for browsers, which can't send headers with a WebSocket or an event stream.

A ticket is worth one connection and 30 seconds. Its row is removed by whoever uses it, so it is
used once however many replicas there are; its signature keeps guesses away from the database.
"""

from typing import NamedTuple
from uuid import UUID

import msgspec

from chassis.clock import Clock
from chassis.postgres import Pool, connection
from services.gateway.auth import Authenticator, Caller
from services.gateway.store import tickets
from services.gateway.tokens import BadCredential, TokenMint

TICKET_SECONDS = 30.0


class Ticket(NamedTuple):
    """The text to put into `?ticket=`, and until when (µs, UTC)."""

    text: str
    expires_at_us: int


class Tickets:
    """Issues and redeems tickets; `mint` makes tokens of the ticket audience."""

    def __init__(
        self, *, pool: Pool, mint: TokenMint, authenticator: Authenticator, clock: Clock
    ) -> None:
        self._pool = pool
        self._mint = mint
        self._authenticator = authenticator
        self._clock = clock

    async def issue(self, caller: Caller) -> Ticket:
        """A ticket for the caller; a connection made with it ends when their credential does.

        Raises:
            Unavailable: the database did not answer.
        """
        principal = caller.principal
        text = self._mint.make(
            org_id=principal.org_id,
            user_id=principal.user_id,
            credential_id=UUID(principal.credential_id),
        )
        subject = self._mint.read(text)
        async with connection(self._pool) as conn:
            await tickets.add(
                conn,
                subject.org_id,
                subject.token_id,
                now_us=self._clock.now_us(),
                expires_at_us=subject.expires_at_us,
                credential_expires_at_us=caller.expires_at_us,
            )
        return Ticket(text, subject.expires_at_us)

    async def redeem(self, text: str) -> Caller:
        """Whom the ticket was issued to, as they are now; the first to ask gets the answer.

        Raises:
            BadCredential: it is not ours, over, used, or its holder lost the right to it.
            Unavailable: the database did not answer.
        """
        subject = self._mint.read(text)
        async with connection(self._pool) as conn:
            ends = await tickets.take(conn, subject.org_id, subject.token_id)
        if ends is None:
            raise BadCredential("The ticket was used already.")
        caller = await self._authenticator.recheck(
            subject.org_id, subject.user_id, subject.credential_id
        )
        known = [moment for moment in (ends, caller.expires_at_us) if moment]
        return msgspec.structs.replace(caller, expires_at_us=min(known, default=0))
