"""Who acted is forgotten when they are erased; what is old is dropped by the upkeep job."""

import pytest

from chassis.ids import new_id
from chassis.jobs import JobRun
from chassis.subscription import Delivery
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement, MemberChanged, UserErased
from services.scheduler.consumers import Consumers
from services.scheduler.dispatch import Settler
from services.scheduler.jobs import jobs
from services.scheduler.system import keep_partitions
from tests.integration.scheduler.conftest import ACME, ANA, CLOCK, RIVAL, Parts

pytestmark = pytest.mark.integration

LETTER = (
    "INSERT INTO dead_letters (org_id, id, service, consumer, stream, stream_seq, subject,"
    " message_id, type, cause, error, fingerprint, deliveries, replay_count, traceparent,"
    " payload, headers, died_at, state, closed_at, closed_by) VALUES ($1, $2, 's', 'c', 'ACTIVITY',"
    " 1, 's', 'm', 't', 'c', 'e', 'f', 1, 0, '', '', '{}', now() - make_interval(days => $3),"
    " 'discarded', now(), $4)"
)


def delivery(message: AccountsAnnouncement) -> Delivery:
    return Delivery(
        message_id=str(new_id()),
        subject=f"accounts.v1.{ACME}",
        data=message.SerializeToString(),
        type="",
        traceparent="",
        attempt=1,
        stream_seq=1,
        reply="",
        headers={},
    )


async def test_an_erased_person_is_named_nowhere(parts: Parts) -> None:
    for org in (ACME, RIVAL):
        await parts.plan(org=org)
        await parts.execute(LETTER, org, new_id(), 0, ANA)
    await parts.firing.fire_due()
    await parts.execute("UPDATE runs SET triggered_by = $1", ANA)
    await parts.execute(
        "UPDATE schedules SET paused_at = now(), paused_by = $1, pause_reason = 'why'", ANA
    )
    consumers = Consumers(outbox=parts.outbox, settler=Settler(lambda: 0.0), clock=CLOCK)
    erased = UserErased(org_id=str(ACME), user_id=str(ANA))
    other = MemberChanged(org_id=str(ACME), user_id=str(ANA))
    await consumers.on_accounts(
        [
            delivery(AccountsAnnouncement(member_changed=other)),
            delivery(AccountsAnnouncement(user_erased=erased)),
        ]
    )
    for table, column in (
        ("schedules", "paused_by"),
        ("runs", "triggered_by"),
        ("dead_letters", "closed_by"),
    ):
        rows = await parts.rows(f"SELECT org_id, {column} AS who FROM {table}")
        # What they did elsewhere is that organization's to keep.
        assert {row["org_id"]: row["who"] for row in rows} == {ACME: None, RIVAL: ANA}
    assert all(row["paused_at"] for row in await parts.rows("SELECT paused_at FROM schedules"))


async def test_upkeep_drops_what_is_old(parts: Parts) -> None:
    await parts.execute(LETTER, ACME, new_id(), 31, None)
    await parts.execute(LETTER, ACME, new_id(), 29, None)
    await parts.execute(
        "INSERT INTO inbox (consumer, message_id, processed_at)"
        " VALUES ('c', 'old', now() - interval '9 days'), ('c', 'new', now())"
    )
    await parts.execute(
        "INSERT INTO replicas (id, seen_at) VALUES ($1, now() - interval '2 days')", new_id()
    )
    await keep_partitions(parts.pool)
    await parts.execute(
        "CREATE TABLE runs_day_20200101 PARTITION OF runs_day"
        " FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
    )
    retention = jobs(outbox=parts.outbox)["retention"]
    await parts.outbox.keep_partitions()
    run = JobRun(run_id="", scheduled_for_us=0, args={}, org_id="")
    assert await retention(run) == {"partitions": 1, "inbox": 1, "letters": 1}
    assert await retention(run) == {"partitions": 0, "inbox": 0, "letters": 0}
    (letter,) = await parts.rows(
        "SELECT died_at > now() - interval '30 days' AS is_young FROM dead_letters"
    )
    assert letter["is_young"]
    assert [row["message_id"] for row in await parts.rows("SELECT message_id FROM inbox")] == [
        "new"
    ]
    assert await parts.rows("SELECT id FROM replicas") == []
