"""Heartbeats: a group of them in one transaction, no bucket twice."""

from collections.abc import Sequence
from functools import partial

from chassis.outbox import Outbox, Transaction
from services.ingest.commits.group import Load
from services.ingest.domain import groups
from services.ingest.domain.events import Event, columns_of
from services.ingest.domain.groups import Append
from services.ingest.domain.heartbeats import Beat, Heard, Joined, join, waves
from services.ingest.publishers import announce, kept
from services.ingest.store import appends as append_store
from services.ingest.store import events as store
from services.ingest.store.partitions import Months


def load_of(beat: Beat) -> Load:
    """What a heartbeat brings to a group."""
    return Load(1, sum(map(len, beat.event.content)))


class Beats:
    """Commits groups of heartbeats."""

    def __init__(self, *, outbox: Outbox, months: Months) -> None:
        self._outbox = outbox
        self._months = months

    async def commit(self, beats: Sequence[Beat]) -> list[Heard]:
        """Joins each of n ≥ 1 heartbeats to the event before it, or keeps it as its own.

        Those of one bucket follow one another in transactions of their own.
        """
        heard: dict[int, Heard] = {}
        for wave in waves(beats):
            together = [beats[place] for place in wave]
            starts = [beat.event.start_us for beat in together]
            answers = await self._months.around(starts, partial(self._hear, together))
            heard.update(zip(wave, answers, strict=True))
        return [heard[place] for place in range(len(beats))]

    async def _hear(self, beats: Sequence[Beat]) -> list[Heard]:
        async with self._outbox.begin() as tx:
            await store.lock_buckets(tx.conn, [beat.bucket for beat in beats])
            neighbours = await store.find_neighbours(tx.conn, beats)
            pairs = zip(beats, neighbours, strict=True)
            heard = await _settle(tx, [(beat, join(beat, around)) for beat, around in pairs])
            announce(
                tx,
                [
                    kept(beat.org_id, beat.user_id, one.event)
                    for beat, one in zip(beats, heard, strict=True)
                    if one.is_news
                ],
            )
        return heard


async def _settle(tx: Transaction, joined: Sequence[tuple[Beat, Joined]]) -> list[Heard]:
    """Writes what was decided; the answers in the same order."""
    grown = [(beat.org_id, one.event) for beat, one in joined if one.is_growth and one.is_news]
    await store.grow(tx.conn, grown)
    own = iter(await _keep(tx, [(beat, one.event) for beat, one in joined if not one.is_growth]))
    return [Heard(one.event, one.is_news) if one.is_growth else next(own) for _, one in joined]


async def _keep(tx: Transaction, events: Sequence[tuple[Beat, Event]]) -> list[Heard]:
    """Stores events of their own. One that a person removed or replaced stays as they left it."""
    if not events:
        return []
    plan = groups.plan([_append(beat, event) for beat, event in events], {})
    outcome = groups.settle(plan, await append_store.append_events(tx.conn, plan))
    heard = []
    for (beat, event), answer in zip(events, outcome.answers, strict=True):
        known = None
        if not answer.accepted:
            known, _ = await store.find_versions(
                tx.conn, beat.org_id, beat.user_id, event.device_id, event.event_id
            )
        heard.append(Heard(known or event, is_news=bool(answer.accepted)))
    return heard


def _append(beat: Beat, event: Event) -> Append:
    return Append(
        org_id=beat.org_id,
        user_id=beat.user_id,
        device_id=event.device_id,
        source=event.source,
        columns=columns_of([event]),
        chosen=[],
        received_us=event.received_us,
    )
