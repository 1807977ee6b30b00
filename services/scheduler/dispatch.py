"""Hands runs out and takes in what is heard about them; both in the caller's transaction."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec

from chassis.errors import Invalid
from chassis.outbox import Transaction
from services.scheduler.domain.runs import (
    LIVE_SHELF,
    Attempt,
    Place,
    Report,
    Run,
    attempt_of,
    backoff_seconds,
    join,
    settle,
)
from services.scheduler.publishers import announce_change, announce_work
from services.scheduler.store import attempts, runs
from services.scheduler.store.runs import Held, Settlement

# What a report made just before the deadline takes to arrive.
REPORT_GRACE_SECONDS: Final = 30

Attempts = dict[UUID, dict[int, Attempt]]


def hand_out(tx: Transaction, run: Run, now_us: int) -> None:
    """Announces a run that was leased just now, as work and as news."""
    announce_work(tx, run, now_us)
    announce_change(tx, run)


async def hand_out_again(tx: Transaction, waiting: Sequence[Run], now_us: int) -> None:
    """Leases and announces the next attempt of runs whose back-off is over."""
    if not waiting:
        return
    tokens = await runs.dispatch_again(tx.conn, waiting, REPORT_GRACE_SECONDS)
    for run in waiting:
        again = msgspec.structs.replace(
            run,
            state="queued",
            attempt=run.attempt + 1,
            lease_token=tokens[run.id],
            is_waiting=False,
            progress=0.0,
            result="",
        )
        hand_out(tx, again, now_us)


class Settler:
    """Takes reports into held runs. `random` gives 0 ≤ x < 1, for the jitter of back-offs."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random

    async def take(
        self, tx: Transaction, held: Mapping[UUID, Held], reports: Sequence[Report]
    ) -> None:
        """Stores every attempt's evidence and moves the runs that it moves.

        Raises:
            Invalid: a report carries a token that its run never gave out.
        """
        known = await self._load(tx, held)
        heard: set[tuple[UUID, int]] = set()
        for report in reports:
            run, of_run = held[report.run_id].run, known.setdefault(report.run_id, {})
            attempt = attempt_of(run, of_run, report)
            if attempt is None:
                raise Invalid(f"Run {run.id} gave out no such lease token.")
            of_run[attempt.number] = join(attempt, report)
            heard.add((run.id, attempt.number))
        settlements = self._settlements(held, known, heard)
        places = await runs.settle(tx.conn, settlements) if settlements else {}
        await _store(tx, held, known, heard, places)
        for one in settlements:
            announce_change(tx, one.run)

    async def _load(self, tx: Transaction, held: Mapping[UUID, Held]) -> Attempts:
        known: Attempts = {}
        for is_live in (True, False):
            keys = [
                (one.run.org_id, one.run.id)
                for one in held.values()
                if (one.place.shelf == LIVE_SHELF) is is_live
            ]
            known |= await attempts.load(tx.conn, keys, only_live=is_live)
        return known

    def _settlements(
        self, held: Mapping[UUID, Held], known: Attempts, heard: set[tuple[UUID, int]]
    ) -> list[Settlement]:
        found = []
        for run_id, number in sorted(heard):
            one = held[run_id]
            if number != one.run.attempt:
                # Fenced: a later attempt was handed out, so this is evidence and nothing more.
                continue
            settled = settle(one.run, known[run_id][number])
            if settled != one.run:
                starts_waiting = settled.is_waiting and not one.run.is_waiting
                retry = backoff_seconds(settled, self._random) if starts_waiting else None
                found.append(Settlement(one, settled, retry))
        return found


async def _store(
    tx: Transaction,
    held: Mapping[UUID, Held],
    known: Attempts,
    heard: set[tuple[UUID, int]],
    places: Mapping[UUID, Place],
) -> None:
    """Writes attempts where their run is now; those of a run that moved all move with it."""
    moved = {run_id for run_id, place in places.items() if place != held[run_id].place}
    rows = [
        (attempt, places.get(run_id, held[run_id].place))
        for run_id, of_run in known.items()
        for number, attempt in of_run.items()
        if run_id in moved or (run_id, number) in heard
    ]
    old = {(held[run_id].run.org_id, run_id): held[run_id].place for run_id in moved}
    await attempts.remove(tx.conn, old)
    await attempts.upsert(tx.conn, rows)
