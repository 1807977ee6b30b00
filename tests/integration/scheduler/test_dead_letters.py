"""A message that dies is indexed, replayed when its cause is mended, and takes effect once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from uuid import UUID

import pytest
from nats.js.api import StreamConfig

from chassis import inbox
from chassis.errors import Conflict, Forbidden, Invalid, NotFound
from chassis.ids import new_id
from chassis.subscription import Delivery, Subscription
from protos.scheduler.v1 import scheduler_pb2 as pb
from protos.scheduler.v1.announcements_pb2 import RunReported
from services.scheduler.domain.letters import Replay
from services.scheduler.replays import Replayer
from services.scheduler.store import letters
from tests.integration.scheduler.conftest import (
    ACME,
    RIVAL,
    Installation,
    Parts,
    Scheduler,
    Worker,
    looping,
)
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

MakeWorker = Callable[..., Awaitable[Worker]]
SUBJECT = f"activity.v1.0.{ACME}"


class Ledger:
    """A consumer of activity with an effect that can be counted, and a defect."""

    def __init__(self, worker: Worker, consumer: str = "sessions-activity-0") -> None:
        self.worker = worker
        self.consumer = consumer
        self.is_broken = True
        self.effects: list[bytes] = []
        self.seen: list[str] = []
        self.delivered = 0

    async def handle(self, batch: Sequence[Delivery]) -> None:
        self.delivered += len(batch)
        async with self.worker.outbox.begin() as tx:
            for one in await inbox.claim(tx.conn, self.consumer, batch):
                self.seen.append(one.message_id)
                if self.is_broken:
                    raise Invalid("This consumer has a defect.")
                self.effects.append(one.data)

    def listen(self) -> AbstractAsyncContextManager[None]:
        subscription = Subscription(
            stream="ACTIVITY",
            consumer=self.consumer,
            subjects=("activity.v1.0.>",),
            handler=self.handle,
        )
        return looping(*self.worker.pulls([subscription]))


async def publisher(make_worker: MakeWorker) -> Worker:
    """Ingest, with its stream declared."""
    ingest = await make_worker("ingest", "ACTIVITY")
    await ingest.bus.ensure_stream(
        StreamConfig(name="ACTIVITY", subjects=["activity.v1.>"], allow_atomic=True)
    )
    return ingest


async def say(ingest: Worker, text: str, subject: str = SUBJECT) -> None:
    """Announces one message."""
    async with ingest.outbox.begin() as tx:
        tx.announce("ACTIVITY", subject, RunReported(worker=text))


async def stored(ingest: Worker, count: int) -> bool:
    """Whether the stream took so many messages."""
    return (await ingest.bus.stream_state("ACTIVITY")).last_seq == count


async def list_letters(
    scheduler: Scheduler, *, state: str = "", role: str = "admin", count: int = 1
) -> list[pb.DeadLetter]:
    """The letters in a state, once there are so many."""

    async def found() -> tuple[list[pb.DeadLetter]]:
        request = pb.ListDeadLettersRequest(state=state)
        answer = await scheduler.call(scheduler.letters.ListDeadLetters, request, role=role)
        assert len(answer.letters) == count
        return (list(answer.letters),)

    (letters_found,) = await eventually(found, within=20)
    return letters_found


async def replay(scheduler: Scheduler, letter: pb.DeadLetter) -> pb.ReplayDeadLettersResponse:
    request = pb.ReplayDeadLettersRequest(ids=[letter.id])
    return await scheduler.call(scheduler.letters.ReplayDeadLetters, request)


async def test_a_dead_message_is_indexed_replayed_and_takes_effect_once(
    installation: Installation, make_worker: MakeWorker
) -> None:
    ingest = await publisher(make_worker)
    ledger = Ledger(await make_worker("sessions"))
    # Another consumer of the same stream had no trouble with the message.
    other = Ledger(await make_worker("sessions"), "sessions-activity-other")
    other.is_broken = False
    async with (
        installation.start() as scheduler,
        looping(ingest.outbox.run),
        ledger.listen(),
        other.listen(),
    ):
        await say(ingest, "precious")
        (letter,) = await list_letters(scheduler)
        assert (letter.cause, letter.consumer) == ("permanent", "sessions-activity-0")
        assert (letter.org_id, letter.subject) == (str(ACME), SUBJECT)
        assert letter.error == "Invalid: This consumer has a defect."
        assert (letter.state, letter.replays, letter.payload) == ("open", 0, b"")

        # Replayed too early it dies again: as another letter, which names its origin.
        assert list((await replay(scheduler, letter)).replayed) == [letter.id]
        again = next(one for one in await list_letters(scheduler) if one.id != letter.id)
        assert (again.replays, again.message_id) == (1, letter.message_id)
        assert again.fingerprint == letter.fingerprint
        assert (letter.replay_of, again.replay_of) == ("", letter.id)

        ledger.is_broken = False
        assert list((await replay(scheduler, again)).replayed) == [again.id]
        await eventually(lambda: ledger.effects)
        assert [RunReported.FromString(one).worker for one in ledger.effects] == ["precious"]
        assert set(ledger.seen) == {letter.message_id}

        # What is replayed is not open any more, so it can't be replayed once more.
        assert list((await replay(scheduler, again)).skipped) == [again.id]
        await list_letters(scheduler, count=0)
        assert len(await list_letters(scheduler, state="replayed", count=2)) == 2

        await say(ingest, "next")
        await eventually(lambda: len(other.effects) == 2)
        # Two replays passed by; not even one that keeps no inbox would have noticed.
        assert other.delivered == 2
        assert [RunReported.FromString(one).worker for one in other.effects] == ["precious", "next"]


async def test_a_message_that_took_effect_after_all_is_not_repeated_by_its_replay(
    installation: Installation, make_worker: MakeWorker
) -> None:
    """The letter was written and the process died before saying so: the message came again."""
    ingest = await publisher(make_worker)
    ledger = Ledger(await make_worker("sessions"))
    async with installation.start() as scheduler, looping(ingest.outbox.run), ledger.listen():
        await say(ingest, "precious")
        (letter,) = await list_letters(scheduler)
        async with ledger.worker.outbox.begin() as tx:
            await tx.conn.execute(
                "INSERT INTO inbox (consumer, message_id) VALUES ($1, $2)",
                ledger.consumer,
                letter.message_id,
            )
        ledger.is_broken = False
        await replay(scheduler, letter)
        await eventually(lambda: stored(ingest, 2))
        await say(ingest, "marker")
        await eventually(lambda: ledger.effects)
        assert [RunReported.FromString(one).worker for one in ledger.effects] == ["marker"]


async def test_letters_of_other_organizations_do_not_exist(
    installation: Installation, make_worker: MakeWorker
) -> None:
    ingest = await publisher(make_worker)
    ledger = Ledger(await make_worker("sessions"))
    async with installation.start() as scheduler, looping(ingest.outbox.run), ledger.listen():
        await say(ingest, "secret")
        (letter,) = await list_letters(scheduler)
        calls = scheduler.letters
        request = pb.ListDeadLettersRequest()
        theirs = await scheduler.call(calls.ListDeadLetters, request, org=RIVAL)
        assert not theirs.letters
        with pytest.raises(NotFound):
            await scheduler.call(
                calls.GetDeadLetter, pb.GetDeadLetterRequest(id=letter.id), org=RIVAL
            )
        ids = [letter.id]
        answer = await scheduler.call(
            calls.ReplayDeadLetters, pb.ReplayDeadLettersRequest(ids=ids), org=RIVAL
        )
        assert list(answer.skipped) == ids
        answer = await scheduler.call(
            calls.DiscardDeadLetters, pb.DiscardDeadLettersRequest(ids=ids), org=RIVAL
        )
        assert not answer.discarded
        with pytest.raises(Forbidden):
            await scheduler.call(calls.ListDeadLetters, request, role="manager")
        mine = await scheduler.call(
            calls.GetDeadLetter, pb.GetDeadLetterRequest(id=letter.id), role="admin"
        )
        assert RunReported.FromString(mine.letter.payload).worker == "secret"


async def test_a_dry_run_changes_nothing_and_a_discarded_letter_stays_dead(
    installation: Installation, make_worker: MakeWorker
) -> None:
    ingest = await publisher(make_worker)
    ledger = Ledger(await make_worker("sessions"))
    async with installation.start() as scheduler, looping(ingest.outbox.run), ledger.listen():
        await say(ingest, "one")
        (letter,) = await list_letters(scheduler)
        calls, ids = scheduler.letters, [letter.id, str(new_id())]
        dry = await scheduler.call(
            calls.ReplayDeadLetters, pb.ReplayDeadLettersRequest(ids=ids, is_dry_run=True)
        )
        assert (list(dry.replayed), list(dry.skipped)) == (ids[:1], ids[1:])
        await list_letters(scheduler, state="open")
        gone = await scheduler.call(calls.DiscardDeadLetters, pb.DiscardDeadLettersRequest(ids=ids))
        assert list(gone.discarded) == ids[:1]
        answer = await scheduler.call(calls.ReplayDeadLetters, pb.ReplayDeadLettersRequest(ids=ids))
        assert not answer.replayed
        await list_letters(scheduler, state="discarded")


async def test_a_dead_letter_of_no_organization_is_the_operators(
    installation: Installation, make_worker: MakeWorker
) -> None:
    worker = await make_worker("ingest")
    async with installation.start() as scheduler, looping(worker.outbox.run):
        async with worker.outbox.begin() as tx:
            # A report about no run of ours.
            tx.announce("REPORTS", "reports.v1.ingest", RunReported(run_id="nonsense"))
        (letter,) = await list_letters(scheduler, role="owner")
        assert (letter.org_id, letter.consumer) == ("", "scheduler-reports-all")
        assert not (
            await scheduler.call(
                scheduler.letters.ListDeadLetters,
                pb.ListDeadLettersRequest(),
                org=RIVAL,
            )
        ).letters


async def test_ids_are_checked(installation: Installation) -> None:
    async with installation.start() as scheduler:
        for ids in ([], ["x"], [str(new_id()) for _ in range(201)]):
            with pytest.raises(Invalid) as refused:
                await scheduler.call(
                    scheduler.letters.ReplayDeadLetters, pb.ReplayDeadLettersRequest(ids=ids)
                )
            assert refused.value.violations[0].field.startswith("ids")


# -- on the store ---------------------------------------------------------------------------------


async def store_letter(parts: Parts, number: int, *, message: str, consumer: str) -> None:
    await parts.execute(
        "INSERT INTO dead_letters (org_id, id, service, consumer, stream, stream_seq, subject,"
        " message_id, type, cause, error, fingerprint, deliveries, replay_count, traceparent,"
        " payload, headers, died_at) VALUES ($1, $2, 's', $3, 'ACTIVITY', 1, $4, $5, 't', 'c', 'e',"
        " 'f', 1, 0, '', '', '{}', now())",
        ACME,
        UUID(int=number),
        consumer,
        SUBJECT,
        message,
    )


async def test_replays_of_one_message_never_share_an_id_on_the_bus(parts: Parts) -> None:
    for number, consumer in enumerate("abc"):
        await store_letter(parts, number, message="same", consumer=consumer)
    async with parts.outbox.begin() as tx:
        await letters.add_replays(tx.conn, [ACME], [UUID(int=0), UUID(int=1)], ACME)
    async with parts.outbox.begin() as tx:
        await letters.add_replays(tx.conn, [ACME], [UUID(int=2)], ACME)
        claimed: list[Replay] = await letters.claim_replays(tx.conn, 10)
    assert sorted(one.number for one in claimed) == [1, 2, 3]


async def test_a_letter_that_does_not_know_where_it_came_from_can_only_be_discarded(
    parts: Parts, installation: Installation
) -> None:
    await store_letter(parts, 1, message="m", consumer="c")
    await parts.execute("UPDATE dead_letters SET subject = ''")
    async with replace(installation, dsn=parts.dsn).start() as scheduler:
        calls, ids = scheduler.letters, [str(UUID(int=1))]
        answer = await scheduler.call(calls.ReplayDeadLetters, pb.ReplayDeadLettersRequest(ids=ids))
        assert list(answer.skipped) == ids
        gone = await scheduler.call(calls.DiscardDeadLetters, pb.DiscardDeadLettersRequest(ids=ids))
        assert list(gone.discarded) == ids


async def test_a_replay_that_can_not_be_published_is_tried_again_later(
    parts: Parts, make_worker: MakeWorker
) -> None:
    await store_letter(parts, 1, message="m", consumer="c")
    async with parts.outbox.begin() as tx:
        await letters.add_replays(tx.conn, [ACME], [UUID(int=1)], ACME)
    replayer = Replayer(pool=parts.pool, bus=parts.bus)
    postponed = "SELECT published_at FROM replays WHERE try_at > now() + interval '20 seconds'"
    async with looping(replayer.run):
        # Nobody has declared the stream ACTIVITY.
        assert await eventually(lambda: parts.rows(postponed), within=15) == [
            {"published_at": None}
        ]
        await publisher(make_worker)
        await parts.execute("UPDATE replays SET try_at = now()")
        published = "SELECT number FROM replays WHERE published_at IS NOT NULL"
        assert await eventually(lambda: parts.rows(published), within=15) == [{"number": 1}]


async def test_two_who_replay_the_same_message_at_once_are_told(parts: Parts) -> None:
    for number, consumer in enumerate("ab"):
        await store_letter(parts, number, message="same", consumer=consumer)

    async def second() -> None:
        async with parts.outbox.begin() as tx:
            await letters.add_replays(tx.conn, [ACME], [UUID(int=1)], ACME)

    async def waits() -> bool:
        query = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%INTO replays%' AND wait_event_type = 'Lock'"
        return bool(await parts.rows(query))

    with pytest.RaisesGroup(Conflict):
        async with asyncio.TaskGroup() as group, parts.outbox.begin() as tx:
            await letters.add_replays(tx.conn, [ACME], [UUID(int=0)], ACME)
            group.create_task(second())
            await eventually(waits)
