"""The suite's own schedules are stored once, whoever starts first, and obey an operator."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from chassis.postgres import transaction
from services.scheduler.domain.plans import SUITE, Plan
from services.scheduler.domain.system import SYSTEM_SCHEDULES, declaration
from services.scheduler.store import schedules
from services.scheduler.system import declare_schedules
from tests.integration.scheduler.conftest import CLOCK, Parts

pytestmark = pytest.mark.integration

ROWS = (
    "SELECT id, name, revision, paused_at IS NOT NULL AS is_paused, next_fire_at, expression,"
    " declaration FROM schedules ORDER BY name"
)


async def test_two_replicas_that_start_together_store_each_once(
    parts: Parts, make_parts: Callable[[], Awaitable[Parts]]
) -> None:
    other = await make_parts()
    async with asyncio.TaskGroup() as group:
        for one in (parts, other, parts):
            group.create_task(declare_schedules(one.pool))
    rows = await parts.rows(ROWS)
    assert [row["name"] for row in rows] == sorted(one.name for one in SYSTEM_SCHEDULES)
    assert {row["revision"] for row in rows} == {1}
    assert all(row["next_fire_at"] for row in rows)


async def test_a_restart_changes_nothing_and_a_pause_survives(parts: Parts) -> None:
    await declare_schedules(parts.pool)
    async with transaction(parts.pool) as conn:
        await schedules.pause(conn, SYSTEM_SCHEDULES[0], None, "not now")
        await conn.execute("UPDATE schedules SET jitter_seconds = 77 WHERE name LIKE 'ingest.%'")
    before = await parts.rows("SELECT * FROM schedules ORDER BY name")
    await declare_schedules(parts.pool)
    assert await parts.rows("SELECT * FROM schedules ORDER BY name") == before


async def test_a_changed_declaration_is_a_new_revision_and_keeps_the_pause(parts: Parts) -> None:
    await declare_schedules(parts.pool)
    old = SYSTEM_SCHEDULES[0]
    changed = msgspec.structs.replace(old, plan=Plan("every", "60"))
    async with transaction(parts.pool) as conn:
        await schedules.pause(conn, old, None, "not now")
        assert await schedules.declare(conn, changed, declaration(changed)) is True
        assert await schedules.declare(conn, changed, declaration(changed)) is False
    (row,) = [row for row in await parts.rows(ROWS) if row["id"] == old.id]
    assert (row["revision"], row["expression"], row["is_paused"]) == (2, "60", True)


async def test_what_is_no_longer_declared_never_fires_and_may_come_back(parts: Parts) -> None:
    await declare_schedules(parts.pool)
    gone, *kept = SYSTEM_SCHEDULES
    mine = await parts.plan("made by hand", due_seconds_ago=None)
    for _ in range(2):
        async with transaction(parts.pool) as conn:
            await schedules.retire(conn, SUITE, [one.id for one in kept])
    rows = {row["id"]: row for row in await parts.rows(ROWS)}
    assert (rows[gone.id]["next_fire_at"], rows[gone.id]["revision"]) == (None, 2)
    assert rows[mine.id]["next_fire_at"] is not None
    assert rows[kept[0].id]["next_fire_at"] is not None
    # A resume does not bring it back; only declaring it again does.
    async with transaction(parts.pool) as conn:
        await schedules.pause(conn, gone, None, "why")
        await schedules.resume(conn, gone, CLOCK.now_us(), CLOCK.now_us())
    rows = {row["id"]: row for row in await parts.rows(ROWS)}
    assert (rows[gone.id]["next_fire_at"], rows[gone.id]["is_paused"]) == (None, False)
    await declare_schedules(parts.pool)
    rows = {row["id"]: row for row in await parts.rows(ROWS)}
    assert rows[gone.id]["next_fire_at"] is not None
