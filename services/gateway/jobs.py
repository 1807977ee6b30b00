"""The gateway's own jobs, run when the scheduler dispatches them."""

from collections.abc import Mapping
from typing import Final

import msgspec

from chassis import inbox
from chassis.clock import MICROSECONDS, Clock
from chassis.jobs import Job, JobRun
from chassis.outbox import Outbox
from chassis.postgres import Pool, transaction
from services.gateway.accounts.ledger import Actor, Ledger
from services.gateway.accounts.people import cut_off
from services.gateway.store import people, upkeep

DAY_US: Final = 86_400 * MICROSECONDS
# How long what is over is kept: long enough to be asked about, and to recognise reuse.
KEEP_DAYS: Final[Mapping[str, int]] = {
    "sign_ins": 7,
    "refresh_tokens": 30,
    "invitations": 30,
    "idempotency_keys": 1,
}
INBOX_DAYS: Final = 7
# One bite; a lock is held for some ten milliseconds.
BITE: Final = 1_000


class Upkeep:
    """What time makes necessary."""

    def __init__(self, *, ledger: Ledger, pool: Pool, outbox: Outbox, clock: Clock) -> None:
        self._ledger = ledger
        self._pool = pool
        self._outbox = outbox
        self._clock = clock

    def jobs(self) -> dict[str, Job]:
        """By the name the scheduler knows them under, `gateway.<name>`."""
        return {"retention": self.retention}

    async def retention(self, _run: JobRun) -> dict[str, object]:
        """Removes what is past keeping and closes the doors on guests; may be repeated."""
        done: dict[str, object] = {
            what: await self._remove(what, days) for what, days in KEEP_DAYS.items()
        }
        done["guests_ended"] = await self._end_guests()
        done["outbox_partitions"] = await self._outbox.keep_partitions()
        async with transaction(self._pool) as conn:
            done["inbox"] = await inbox.forget(conn, days=INBOX_DAYS)
        return done

    async def _remove(self, what: str, days: int) -> int:
        before_us = self._clock.now_us() - days * DAY_US
        removed = 0
        while True:
            async with transaction(self._pool) as conn:
                count = await upkeep.remove(conn, what, before_us=before_us, limit=BITE)
            removed += count
            if count < BITE:
                return removed

    async def _end_guests(self) -> int:
        ended = 0
        while True:
            async with self._ledger.begin() as entry:
                expired = await people.lock_expired_members(
                    entry.conn, now_us=entry.now_us, limit=BITE
                )
                for member in expired:
                    after = msgspec.structs.replace(member, is_active=False)
                    saved = await people.save_member(entry.conn, after)
                    entry.member_changed(saved)
                    await cut_off(entry, saved)
                    actor = Actor(saved.org_id, saved.user_id, "")
                    await entry.note(actor, "member.expired", saved.user_id)
            ended += len(expired)
            if len(expired) < BITE:
                return ended
