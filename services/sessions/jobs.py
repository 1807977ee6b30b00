"""Upkeep the scheduler dispatches to this service."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from chassis import inbox, telemetry
from chassis.jobs import Job, JobRun
from chassis.log import get_logger
from chassis.outbox import Outbox
from services.sessions.domain.intervals import DAY_US, Interval
from services.sessions.recompute import Recomputer, announce
from services.sessions.store import timelines
from services.sessions.store.timelines import Person

log = get_logger(__name__)

# Older than any stream keeps or any outbox refills, so no repeat can come.
INBOX_DAYS: Final = 8
VERIFY_DAYS: Final = 3
PAGE: Final = 200
_FIRST: Final[Person] = (UUID(int=0), UUID(int=0))

_mismatches = telemetry.meter.create_counter("timeloom.sessions.mismatches", "{day}")


def jobs(*, outbox: Outbox, recomputer: Recomputer) -> Mapping[str, Job]:
    """The jobs of this service by name."""

    async def verify(run: JobRun) -> dict[str, object]:
        return await _verify(run, outbox, recomputer)

    async def retention(_run: JobRun) -> dict[str, object]:
        async with outbox.begin() as tx:
            forgotten = await inbox.forget(tx.conn, days=INBOX_DAYS)
        return {"forgotten": forgotten, "partitions": await outbox.keep_partitions()}

    return {"verify": verify, "retention": retention}


async def _verify(run: JobRun, outbox: Outbox, recomputer: Recomputer) -> dict[str, object]:
    """Derives the last days of everyone whose time changed lately, mends and counts differences.

    A difference is a defect of the engine or of the store: it is an error in the log.
    """
    number = int(str(run.args.get("days", VERIFY_DAYS)))
    people = mended = 0
    after = _FIRST
    while True:
        async with outbox.begin() as tx:
            page = await timelines.list_changed(tx.conn, hours=24 * number, after=after, limit=PAGE)
        for person in page:
            people += 1
            for days_ago in range(number):
                until = run.scheduled_for_us - days_ago * DAY_US
                extent = (until - DAY_US, until)
                mended += await _verify_day(person, extent, outbox, recomputer)
        if len(page) < PAGE:
            return {"people": people, "mended": mended}
        after = page[-1]


async def _verify_day(
    person: Person, extent: Interval, outbox: Outbox, recomputer: Recomputer
) -> int:
    async with outbox.begin() as tx:
        held = await timelines.hold(tx.conn, person)
        if held is None:
            return 0
        change = await recomputer.redo(tx.conn, person, extent, held + 1)
        if not change:
            return 0
        change.version = (await timelines.lock(tx.conn, [person]))[person]
        _mismatches.add(len(change.days))
        log.error(
            "sessions.mismatch",
            org_id=str(person[0]),
            user_id=str(person[1]),
            sessions=len(change.updated) + len(change.removed),
            days=len(change.days),
        )
        announce(tx, person, change)
    return 1
