"""Changes to accounts: each in one transaction with its announcements and its audit entry."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, Self
from uuid import UUID

from chassis.clock import Clock
from chassis.identity import Principal
from chassis.ids import new_id
from chassis.outbox import Outbox, Transaction
from chassis.postgres import Connection
from services.gateway import publishers
from services.gateway.auth import Authenticator
from services.gateway.domain import AuditEntry, Member
from services.gateway.store import audit


class Actor(NamedTuple):
    """Who does it, as the audit log remembers them."""

    org_id: UUID
    user_id: UUID
    credential_id: str

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """A caller."""
        return cls(principal.org_id, principal.user_id, principal.credential_id)


class Entry:
    """One transaction. `now_us` is its moment."""

    def __init__(self, tx: Transaction, now_us: int) -> None:
        self._tx = tx
        self.now_us = now_us
        self.touched: set[tuple[UUID, UUID]] = set()

    @property
    def conn(self) -> Connection:
        """The connection to pass to stores."""
        return self._tx.conn

    def member_changed(self, member: Member) -> None:
        """Announces a membership as it was just saved."""
        self.touched.add((member.org_id, member.user_id))
        publishers.member_changed(self._tx, member)

    def credential_revoked(
        self, org_id: UUID, user_id: UUID, credential_id: UUID | None = None
    ) -> None:
        """Announces that holders of a credential are cut off; None: of all of the person's."""
        self.touched.add((org_id, user_id))
        publishers.credential_revoked(self._tx, org_id, user_id, credential_id)

    def user_erased(self, org_id: UUID, user_id: UUID) -> None:
        """Announces that a person is to be forgotten."""
        self.touched.add((org_id, user_id))
        publishers.user_erased(self._tx, org_id, user_id)

    async def note(self, actor: Actor, action: str, target: object = "", **detail: object) -> None:
        """Adds to the audit log of the actor's organization; no names, no secrets."""
        entry = AuditEntry(
            entry_id=new_id(),
            at_us=self.now_us,
            actor_id=actor.user_id,
            credential_id=actor.credential_id,
            action=action,
            target=str(target),
            detail=detail,
        )
        await audit.add(self.conn, actor.org_id, entry)


class Ledger:
    """Opens entries."""

    def __init__(self, *, outbox: Outbox, authenticator: Authenticator, clock: Clock) -> None:
        self._outbox = outbox
        self._authenticator = authenticator
        self._clock = clock

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Entry]:
        """A transaction that commits when the block ends well.

        This replica forgets at once what it knew of those whose membership changed, so that the
        caller sees their own change; other replicas hear of it.

        Raises:
            Unavailable: the database did not answer.
        """
        async with self._outbox.begin() as tx:
            entry = Entry(tx, self._clock.now_us())
            yield entry
        for org_id, user_id in entry.touched:
            self._authenticator.forget(org_id, user_id)
