"""State and announcement in one commit, and a relay that loses and reorders nothing."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from chassis import outbox as outbox_module
from chassis import relay, telemetry
from chassis.bus import Bus
from chassis.errors import Conflict, Invalid
from chassis.outbox import Outbox
from protos.scheduler.v1.announcements_pb2 import RunReported
from tests.integration.chassis.conftest import MakeOutbox, Running
from tests.integration.chassis.streams import announce, numbers_in, stream
from tests.support.eventually import eventually

UNPUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NULL"


def arrived(bus: Bus, stream_name: str, numbers: range | list[int]) -> Callable[[], Any]:
    async def check() -> bool:
        assert await numbers_in(bus, stream_name) == list(numbers)
        return True

    return check


async def test_what_commits_is_announced_in_the_order_it_was_said(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    async with running(outbox):
        await announce(outbox, "ALPHA", *range(1500))
        for number in range(1500, 1600):
            await announce(outbox, "ALPHA", number)
        await eventually(arrived(bus, "ALPHA", range(1600)))
    assert await conn.fetchval(UNPUBLISHED) == 0


async def test_an_announcement_carries_its_identity_type_and_trace(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with running(outbox), outbox.begin() as tx:
        tx.announce("ALPHA", "alpha.v1.given", RunReported(run_id="1"), traceparent=parent)
        with telemetry.span("job run", parents=[parent]):
            tx.announce("ALPHA", "alpha.v1.current", RunReported(run_id="2"))
    given = await bus.client.jetstream().get_msg("ALPHA", 1)
    current = await bus.client.jetstream().get_msg("ALPHA", 2)
    row = await conn.fetchrow("SELECT id, created_at FROM outbox ORDER BY id LIMIT 1")
    assert given.headers is not None
    assert current.headers is not None
    assert given.headers["Nats-Msg-Id"] == given.headers["ce-id"] == str(row["id"])
    assert given.headers["ce-time"] == row["created_at"].isoformat()
    assert given.headers["ce-type"] == "timeloom.scheduler.v1.RunReported"
    assert given.headers["ce-source"] == "timeloom/sample"
    assert given.headers["ce-subject"] == given.subject == "alpha.v1.given"
    assert given.headers["traceparent"] == parent
    assert current.headers["traceparent"][3:35] == "0af7651916cd43dd8448eb211c80319c"


async def test_what_is_rolled_back_is_never_announced(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    async with running(outbox):
        with pytest.raises(Conflict):
            await announce_and_fail(outbox)
        await announce(outbox, "ALPHA", 2)
        await eventually(arrived(bus, "ALPHA", [2]))
    assert await conn.fetchval("SELECT to_regclass('made')") is None
    assert await conn.fetchval("SELECT count(*) FROM outbox") == 1


async def announce_and_fail(outbox: Outbox) -> None:
    async with outbox.begin() as tx:
        await tx.conn.execute("CREATE TABLE made (x int)")
        tx.announce("ALPHA", "alpha.v1.sample", RunReported(run_id="1"))
        raise Conflict


async def test_an_announcement_that_could_not_leave_is_refused_before_it_commits(
    make_outbox: MakeOutbox, monkeypatch: pytest.MonkeyPatch, conn: Any
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_PAYLOAD_BYTES", 100)
    outbox = make_outbox("ALPHA")
    refused = [
        ("BETA", "beta.v1.sample", RunReported(), ValueError),
        ("ALPHA", "alpha.v1.*", RunReported(), ValueError),
        ("ALPHA", "alpha.v1.sample", RunReported(run_id="x" * 101), Invalid),
    ]
    for stream_name, subject, message, error in refused:
        with pytest.raises(error):
            async with outbox.begin() as tx:
                tx.announce(stream_name, subject, message)
    assert await conn.fetchval("SELECT count(*) FROM outbox") == 0


async def test_what_a_crash_left_behind_is_announced_by_the_next_start(
    bus: Bus, make_outbox: MakeOutbox, running: Running
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    crashed = make_outbox("ALPHA")
    for number in range(20):
        await announce(crashed, "ALPHA", number)
    restarted = make_outbox("ALPHA")
    await announce(restarted, "ALPHA", 20)
    async with running(restarted):
        await eventually(arrived(bus, "ALPHA", range(21)))


async def test_a_replica_announces_what_another_one_left_behind(
    bus: Bus, make_outbox: MakeOutbox, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(relay, "SWEEP_GRACE_SECONDS", 0.1)
    await bus.ensure_stream(stream("ALPHA"))
    crashed, lives = make_outbox("ALPHA"), make_outbox("ALPHA")
    async with running(lives):
        await announce(lives, "ALPHA", 1)
        await eventually(arrived(bus, "ALPHA", [1]))
        await announce(crashed, "ALPHA", 2)
        await eventually(arrived(bus, "ALPHA", [1, 2]))


async def test_two_replicas_that_sweep_at_once_announce_everything_once(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    crashed = make_outbox("ALPHA")
    for start in range(0, 5000, 500):
        await announce(crashed, "ALPHA", *range(start, start + 500))

    async def all_there() -> bool:
        return len(await numbers_in(bus, "ALPHA")) >= 5000

    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(running(make_outbox("ALPHA")))
        await eventually(all_there, within=20)
    assert sorted(await numbers_in(bus, "ALPHA")) == list(range(5000))
    assert await conn.fetchval(UNPUBLISHED) == 0


async def test_stopping_announces_what_was_just_committed(
    bus: Bus, make_outbox: MakeOutbox, running: Running
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    async with running(outbox):
        await announce(outbox, "ALPHA", *range(3000))
    assert await numbers_in(bus, "ALPHA") == list(range(3000))


async def test_a_stream_that_is_missing_holds_up_no_other(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA", "REPORTS")
    # More than one sweep's worth of rows that can't leave, older than the others.
    for start in range(0, 2400, 400):
        await announce(outbox, "REPORTS", *range(start, start + 400))
    async with running(outbox):
        for number in range(50):
            await announce(outbox, "ALPHA", number)
        await eventually(arrived(bus, "ALPHA", range(50)), within=4)
        assert await conn.fetchval(UNPUBLISHED) == 2400


async def test_rows_of_a_missing_stream_wait_in_the_table_and_leave_in_order(
    bus: Bus, connect_bus: Any, make_outbox: MakeOutbox, running: Running
) -> None:
    outbox = make_outbox("ALPHA")
    lane = outbox._lanes["ALPHA"]
    async with running(outbox):
        await announce(outbox, "ALPHA", 0)
        await eventually(lambda: lane._is_away)
        for number in range(1, 60):
            await announce(outbox, "ALPHA", number)
            assert not lane._waiting
        owner = await connect_bus()
        await owner.ensure_stream(stream("ALPHA"))
        for number in range(60, 120):
            await announce(outbox, "ALPHA", number)
        await eventually(arrived(bus, "ALPHA", range(120)), within=15)


async def test_a_full_memory_costs_neither_rows_nor_their_order(
    bus: Bus, make_outbox: MakeOutbox, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MAX_WAITING", 7)
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    lane = outbox._lanes["ALPHA"]
    async with running(outbox):
        for start in range(0, 600, 5):
            await announce(outbox, "ALPHA", *range(start, start + 5))
            assert len(lane._waiting) <= 7
        await eventually(arrived(bus, "ALPHA", range(600)))


async def test_memory_and_batches_are_bounded_by_bytes_too(
    bus: Bus, make_outbox: MakeOutbox, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MAX_WAITING_BYTES", 5_000)
    monkeypatch.setattr(relay, "MAX_BATCH_BYTES", 2_500)
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    lane = outbox._lanes["ALPHA"]
    async with outbox.begin() as tx:
        for number in range(12):
            report = RunReported(run_id=str(number), result_json="x" * 1000)
            tx.announce("ALPHA", "alpha.v1.sample", report)
    # Too much for memory: it stays in the table.
    assert lane._waiting_bytes == 0
    async with running(outbox):
        await eventually(arrived(bus, "ALPHA", range(12)))
    sizes = [
        span
        for span in [await conn_batches(bus, number) for number in range(1, 13)]
        if span is not None
    ]
    assert max(sizes) <= 3


async def conn_batches(bus: Bus, sequence: int) -> int | None:
    """The place of a message in its atomic batch; None when it was published alone."""
    message = await bus.client.jetstream().get_msg("ALPHA", sequence)
    number = (message.headers or {}).get("Nats-Batch-Sequence")
    return int(number) if number else None


async def test_a_mark_that_is_lost_only_means_a_repeat(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    await bus.ensure_stream(stream("ALPHA"))
    first = make_outbox("ALPHA")
    async with running(first):
        await announce(first, "ALPHA", 1, 2, 3)
    await conn.execute(
        "UPDATE outbox SET published_at = NULL WHERE id <> (SELECT id FROM outbox ORDER BY id LIMIT 1)"
    )
    second = make_outbox("ALPHA")
    await announce(second, "ALPHA", 4)
    async with running(second):
        await eventually(arrived(bus, "ALPHA", [1, 2, 3, 4]))
    assert await conn.fetchval(UNPUBLISHED) == 0


async def test_the_age_of_the_oldest_row_is_measured_while_its_stream_is_away(
    make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    outbox = make_outbox("ALPHA")
    lane = outbox._lanes["ALPHA"]
    assert await lane._measure() == 0.0
    await announce(outbox, "ALPHA", 1)
    await conn.execute("UPDATE outbox SET created_at = created_at - interval '1 hour'")
    assert 3590 < await lane._measure() < 3700


async def outbox_days(conn: Any) -> set[str]:
    rows = await conn.fetch(
        "SELECT inhrelid::regclass::text AS part FROM pg_inherits WHERE inhparent = 'outbox'::regclass"
    )
    return {row["part"] for row in rows}


async def drop_days(conn: Any) -> None:
    """The state of a database that was migrated long ago."""
    for part in await outbox_days(conn) - {"outbox_default"}:
        await conn.execute(f"DROP TABLE {part}")


async def test_partitions_are_made_ahead_and_rows_move_into_their_day(
    make_outbox: MakeOutbox, conn: Any
) -> None:
    outbox = make_outbox("ALPHA")
    await drop_days(conn)
    await announce(outbox, "ALPHA", 1)
    assert await conn.fetchval("SELECT count(*) FROM outbox_default") == 1
    made = await outbox.keep_partitions()
    assert made == outbox_module.DAYS_AHEAD + 1
    assert len(await outbox_days(conn)) == outbox_module.DAYS_AHEAD + 2
    assert await conn.fetchval("SELECT count(*) FROM outbox_default") == 0
    assert await conn.fetchval(UNPUBLISHED) == 1
    assert await outbox.keep_partitions() == 0


async def test_old_days_are_dropped_unless_a_row_of_theirs_still_waits(
    make_outbox: MakeOutbox, conn: Any
) -> None:
    outbox = make_outbox("ALPHA")
    for days_ago, published in [(10, True), (9, False), (2, True)]:
        await conn.execute(
            f"""
            DO $$ DECLARE day date := (now() AT TIME ZONE 'UTC')::date - {days_ago}; BEGIN
              EXECUTE format('CREATE TABLE %I PARTITION OF outbox FOR VALUES FROM (%L) TO (%L)',
                'outbox_' || to_char(day, 'YYYYMMDD'), day::timestamptz, (day + 1)::timestamptz);
            END $$
            """
        )
        await conn.execute(
            """
            INSERT INTO outbox (id, created_at, stream, subject, type, payload, published_at)
            VALUES (gen_random_uuid(), date_trunc('day', now()) - make_interval(days => $1) +
                    interval '1 hour', 'ALPHA', 'alpha.v1.sample', 't', '', $2)
            """,
            days_ago,
            None if not published else await conn.fetchval("SELECT now()"),
        )
    before = await outbox_days(conn)
    await outbox.keep_partitions()
    assert len(before - await outbox_days(conn)) == 1
    assert await conn.fetchval("SELECT count(*) FROM outbox") == 2
    await conn.execute("UPDATE outbox SET published_at = now() WHERE published_at IS NULL")
    await outbox.keep_partitions()
    assert await conn.fetchval("SELECT count(*) FROM outbox") == 1


async def test_the_relay_makes_partitions_by_itself(
    make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    async def made() -> bool:
        return len(await outbox_days(conn)) > outbox_module.DAYS_AHEAD

    await drop_days(conn)
    async with running(make_outbox("ALPHA")):
        await eventually(made)


async def test_replicas_that_make_partitions_at_once_make_each_once(
    make_outbox: MakeOutbox, conn: Any
) -> None:
    replicas = [make_outbox("ALPHA") for _ in range(5)]
    for _ in range(3):
        await drop_days(conn)
        async with asyncio.TaskGroup() as group:
            counts = [group.create_task(replica.keep_partitions()) for replica in replicas]
        assert sum(count.result() for count in counts) == outbox_module.DAYS_AHEAD + 1


async def announce_each(outbox: Outbox, numbers: range) -> None:
    for number in numbers:
        await announce(outbox, "ALPHA", number)


async def test_partitions_are_made_while_announcements_are_written(
    bus: Bus, make_outbox: MakeOutbox, running: Running, conn: Any
) -> None:
    await drop_days(conn)
    await bus.ensure_stream(stream("ALPHA"))
    outbox = make_outbox("ALPHA")
    async with running(outbox), asyncio.TaskGroup() as group:
        for start in range(0, 200, 50):
            group.create_task(announce_each(outbox, range(start, start + 50)))
    assert sorted(await numbers_in(bus, "ALPHA")) == list(range(200))
    assert await conn.fetchval("SELECT count(*) FROM outbox_default") == 0


async def test_readiness_asks_the_database(make_outbox: MakeOutbox) -> None:
    outbox: Outbox = make_outbox("ALPHA")
    async with asyncio.timeout(5):
        await outbox.check()
