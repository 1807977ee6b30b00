"""Due schedules become runs: each moment once, whoever looks and whoever dies."""

from collections.abc import Awaitable, Callable

import pytest

from chassis.postgres import transaction
from protos.scheduler.v1.announcements_pb2 import RunChanged, WorkItem
from services.scheduler.domain.plans import Plan
from services.scheduler.due import DueLoop, Firing
from services.scheduler.store import schedules
from tests.integration.scheduler.conftest import ACME, CLOCK, SECOND, Parts, looping
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

MakeParts = Callable[[], Awaitable[Parts]]
RUNS = "SELECT * FROM runs ORDER BY scheduled_for"
OUTBOX = "SELECT stream, subject, payload FROM outbox ORDER BY id"


async def test_a_due_schedule_becomes_a_run_with_its_announcements(parts: Parts) -> None:
    schedule = await parts.plan(due_seconds_ago=1, max_runtime_seconds=50, start_margin_seconds=10)
    assert await parts.firing.fire_due() is False
    (run,) = await parts.rows(RUNS)
    assert (run["state"], run["attempt"], run["shelf"]) == ("queued", 1, "live")
    work, change = await parts.rows(OUTBOX)
    assert (work["stream"], work["subject"]) == ("WORK", "work.v1.ingest.partitions")
    item = WorkItem.FromString(work["payload"])
    assert item.run_id == str(run["id"])
    assert (item.job, item.org_id) == ("partitions", "")
    assert item.lease_token == run["lease_token"] > 0
    assert item.scheduled_for_us == schedule.scheduled_for_us
    assert item.max_runtime_us == 50 * SECOND
    lease = (run["wake_at"] - run["created_at"]).total_seconds()
    # The lease outlasts the deadline by the time a report takes to arrive.
    assert lease == 10 + 50 + 30
    assert (change["stream"], change["subject"]) == ("JOBS", "jobs.v1.system")
    assert RunChanged.FromString(change["payload"]).state == "queued"


async def test_the_next_moment_follows_from_the_plan_and_not_from_now(parts: Parts) -> None:
    await parts.plan(plan=Plan("cron", "0 3 * * *", "Europe/Berlin"))
    await parts.firing.fire_due()
    (row,) = await parts.rows(
        "SELECT (next_fire_at AT TIME ZONE 'Europe/Berlin')::text AS wall, next_fire_at > now()"
        " AS is_ahead FROM schedules"
    )
    assert row["is_ahead"]
    assert row["wall"].endswith(" 03:00:00")
    assert await parts.firing.fire_due() is False
    assert len(await parts.rows(RUNS)) == 1


async def test_three_replicas_fire_each_moment_once(parts: Parts, make_parts: MakeParts) -> None:
    others = [await make_parts(), await make_parts()]
    for number in range(40):
        await parts.plan(
            f"tick {number}", plan=Plan("every", "1"), misfire="fire_all", overlap="allow_all"
        )
    loops = [
        DueLoop(one.firing.fire_due, one.firing.seconds_until_due).run for one in (parts, *others)
    ]
    async with looping(*loops):
        fired = "SELECT count(*) AS n FROM fires"
        await eventually(lambda: _count(parts, fired, at_least=160), within=30, every=0.1)
    by_schedule = await parts.rows(
        "SELECT count(*) AS runs, count(DISTINCT scheduled_for) AS moments,"
        " count(DISTINCT lease_token) AS tokens,"
        " extract(epoch FROM max(scheduled_for) - (min(scheduled_for) FILTER"
        " (WHERE scheduled_for = date_trunc('second', scheduled_for)))) AS seconds"
        " FROM runs GROUP BY schedule_id"
    )
    assert len(by_schedule) == 40
    for one in by_schedule:
        # The first moment of each was set by the test; the others are the whole seconds since.
        assert one["runs"] == one["moments"] == one["tokens"] == one["seconds"] + 2
    (fires,) = await parts.rows("SELECT count(*) AS n FROM fires")
    assert fires["n"] == sum(one["runs"] for one in by_schedule)
    (replicas,) = await parts.rows("SELECT count(*) AS n FROM replicas")
    assert replicas["n"] == 3


async def _count(parts: Parts, query: str, *, at_least: int) -> bool:
    (row,) = await parts.rows(query)
    return bool(row["n"] >= at_least)


async def test_what_one_replica_claims_the_other_does_not_see(
    parts: Parts, make_parts: MakeParts
) -> None:
    other = await make_parts()
    await parts.plan("held")
    async with transaction(parts.pool) as conn:
        (held,) = await schedules.claim_due(conn, 10)
        assert held.schedule.name == "held"
        await other.plan("free")
        await other.firing.fire_due()
    (run,) = await parts.rows("SELECT s.name FROM runs r JOIN schedules s ON s.id = r.schedule_id")
    assert run["name"] == "free"


async def test_a_crash_before_the_commit_leaves_nothing_and_it_fires_again(parts: Parts) -> None:
    await parts.plan()
    # The transaction can't end well: what it would announce has no place to go.
    await parts.execute("ALTER TABLE outbox RENAME TO gone")
    with pytest.raises(Exception, match="outbox"):
        await parts.firing.fire_due()
    assert await parts.rows(RUNS) == []
    assert await parts.rows("SELECT run_id FROM fires") == []
    await parts.execute("ALTER TABLE gone RENAME TO outbox")
    await parts.firing.fire_due()
    assert len(await parts.rows(RUNS)) == 1


async def test_a_crash_before_publishing_is_made_good_by_another_replica(
    parts: Parts, make_parts: MakeParts
) -> None:
    await parts.plan()
    # This replica commits and dies: its relay never runs.
    await parts.firing.fire_due()
    other = await make_parts()
    async with looping(other.outbox.run):
        await eventually(lambda: _stored(other, "WORK"), within=15)
        await eventually(lambda: _stored(other, "JOBS"), within=15)


async def _stored(parts: Parts, stream: str) -> bool:
    return (await parts.bus.stream_state(stream)).last_seq == 1


async def test_a_moment_that_was_fired_before_gives_no_second_run(parts: Parts) -> None:
    schedule = await parts.plan(due_seconds_ago=1, overlap="allow_all")
    await parts.firing.fire_due()
    # As after a restore of an older backup of this one table.
    await parts.execute(
        "UPDATE schedules SET next_scheduled_for = r.scheduled_for, next_fire_at = r.scheduled_for"
        " FROM runs r WHERE schedules.id = $1",
        schedule.id,
    )
    await parts.firing.fire_due()
    assert len(await parts.rows(RUNS)) == 1
    (row,) = await parts.rows("SELECT next_fire_at > now() AS is_ahead FROM schedules")
    assert row["is_ahead"]


async def test_a_new_revision_may_fire_the_same_moment(parts: Parts) -> None:
    schedule = await parts.plan(due_seconds_ago=1, overlap="allow_all")
    await parts.firing.fire_due()
    await parts.execute(
        "UPDATE schedules SET next_scheduled_for = r.scheduled_for, next_fire_at = r.scheduled_for,"
        " revision = 2 FROM runs r WHERE schedules.id = $1",
        schedule.id,
    )
    await parts.firing.fire_due()
    assert [run["revision"] for run in await parts.rows(RUNS + ", revision")] == [1, 2]


async def test_a_run_that_goes_on_makes_the_next_one_skipped_and_counted(parts: Parts) -> None:
    await parts.plan(plan=Plan("every", "1"), overlap="skip")
    await parts.firing.fire_due()

    async def fired_again() -> bool:
        await parts.firing.fire_due()
        return len(await parts.rows(RUNS)) > 1

    await eventually(fired_again)
    first, second, *_ = await parts.rows(RUNS)
    assert (first["state"], second["state"], second["shelf"]) == ("queued", "skipped", "day")
    (row,) = await parts.rows("SELECT skipped_count, missed_count FROM schedules")
    assert row["skipped_count"] >= 1
    assert row["missed_count"] == 0


async def test_moments_nobody_was_there_for_are_missed_and_counted(parts: Parts) -> None:
    hour = 3600
    await parts.plan(due_seconds_ago=5.5 * hour, misfire_window_seconds=24 * hour)
    await parts.firing.fire_due()
    states = [run["state"] for run in await parts.rows(RUNS)]
    # The moment set by the test, then whole hours: the last of all fires.
    assert states[-1] == "queued"
    assert set(states[:-1]) == {"missed"}
    assert 5 <= len(states) - 1 <= 6
    (row,) = await parts.rows("SELECT missed_count FROM schedules")
    assert row["missed_count"] == len(states) - 1


async def test_a_paused_schedule_does_not_fire(parts: Parts) -> None:
    schedule = await parts.plan()
    async with transaction(parts.pool) as conn:
        await schedules.pause(conn, schedule, None, "wait")
    await parts.firing.fire_due()
    assert await parts.rows(RUNS) == []
    assert await parts.firing.seconds_until_due() is None


async def test_a_plan_that_is_broken_pauses_itself_and_the_others_fire(parts: Parts) -> None:
    await parts.plan("broken", due_seconds_ago=10)
    await parts.plan("sound", due_seconds_ago=1)
    # As when an update of the time zone data drops a name.
    await parts.execute(
        "UPDATE schedules SET kind = 'cron', expression = '* * * * *', time_zone = 'Mars/Base'"
        " WHERE name = 'broken'"
    )
    await parts.firing.fire_due()
    (paused,) = await parts.rows(
        "SELECT name, pause_reason FROM schedules WHERE paused_at > '2000-01-01'"
    )
    assert paused["name"] == "broken"
    assert "Mars/Base" in paused["pause_reason"]
    assert len(await parts.rows(RUNS)) == 1


async def test_the_more_urgent_goes_out_first(parts: Parts) -> None:
    await parts.plan("late and calm", due_seconds_ago=9, priority=-5)
    await parts.plan("urgent", due_seconds_ago=1, priority=5, org=ACME)
    await parts.firing.fire_due()
    items = [
        WorkItem.FromString(row["payload"])
        for row in await parts.rows(OUTBOX)
        if row["stream"] == "WORK"
    ]
    assert [item.org_id for item in items] == [str(ACME), ""]
    assert (await parts.rows(OUTBOX))[1]["subject"] == f"jobs.v1.{ACME}"


async def test_a_full_batch_says_that_more_may_be_due(parts: Parts) -> None:
    firing = Firing(pool=parts.pool, outbox=parts.outbox, clock=CLOCK, batch=3)
    for number in range(5):
        await parts.plan(f"job {number}")
    assert await firing.fire_due() is True
    assert await firing.fire_due() is False
    assert len(await parts.rows(RUNS)) == 5
