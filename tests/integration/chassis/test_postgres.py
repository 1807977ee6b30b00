"""Pools on a real PostgreSQL: what went wrong is told apart by who can mend it."""

import asyncio
from signal import SIGKILL
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from chassis import postgres
from chassis.errors import Conflict, Unavailable
from chassis.postgres import Pool, connection, constraints, transaction
from chassis.settings import PostgresSettings
from tests.support.eventually import eventually
from tests.support.servers import Stores


async def test_a_transaction_commits_when_it_ends_well_and_only_then(pool: Pool, conn: Any) -> None:
    await conn.execute("CREATE TABLE kept (x int)")
    async with transaction(pool) as held:
        await held.execute("INSERT INTO kept VALUES (1)")
        assert await conn.fetchval("SELECT count(*) FROM kept") == 0
    with pytest.raises(Conflict):
        await insert_and_fail(pool)
    assert [row["x"] for row in await conn.fetch("SELECT x FROM kept")] == [1]


async def insert_and_fail(pool: Pool) -> None:
    async with transaction(pool) as held:
        await held.execute("INSERT INTO kept VALUES (2)")
        raise Conflict


async def test_sessions_speak_utc_and_carry_the_name_of_the_service(pool: Pool) -> None:
    async with connection(pool) as held:
        assert await held.fetchval("SHOW TimeZone") == "UTC"
        assert await held.fetchval("SHOW application_name") == "test"


async def test_a_violated_constraint_becomes_the_error_its_name_stands_for(
    pool: Pool, conn: Any
) -> None:
    await conn.execute(
        "CREATE TABLE people (name text, CONSTRAINT people_name_taken UNIQUE (name),"
        " CONSTRAINT people_name_short CHECK (length(name) < 9))"
    )
    await insert(pool, "anna")
    with pytest.raises(Conflict, match="taken"):
        await insert(pool, "anna")
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(pool, "much too long")


async def insert(pool: Pool, name: str) -> None:
    errors = {"people_name_taken": Conflict("That name is taken.")}
    async with transaction(pool) as held:
        with constraints(errors):
            await held.execute("INSERT INTO people VALUES ($1)", name)


async def test_when_every_connection_is_held_callers_are_told_in_time(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "ACQUIRE_SECONDS", 0.1)
    settings = PostgresSettings(postgres_dsn=SecretStr(dsn), postgres_pool_size=1)
    async with postgres.pool(settings, application="test") as small, connection(small):
        with pytest.raises(Unavailable, match="did not answer"):
            await ask(small)


async def ask(pool: Pool, query: str = "SELECT 1", *args: object) -> object:
    async with connection(pool) as held:
        return await held.fetchval(query, *args)


@pytest.mark.parametrize(
    ("query", "args"),
    [("SELECT $1::int", ("not a number",)), ("SELECT $1::int", ()), ("SELECT missing", ())],
    ids=["wrong type", "too few arguments", "no such column"],
)
async def test_a_mistake_of_ours_is_not_taken_for_a_database_that_is_away(
    pool: Pool, query: str, args: tuple[object, ...]
) -> None:
    with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError)) as raised:
        await ask(pool, query, *args)
    assert not isinstance(raised.value, Unavailable)
    assert await ask(pool) == 1


async def test_a_connection_that_an_operator_ends_is_unavailable_and_replaced(
    pool: Pool, conn: Any
) -> None:
    with pytest.raises(Unavailable, match="went away"):
        await ask_after_being_ended(pool, conn)
    assert await ask(pool) == 1


async def ask_after_being_ended(pool: Pool, conn: Any) -> None:
    async with connection(pool) as held:
        await conn.fetchval("SELECT pg_terminate_backend($1)", held.get_server_pid())
        await held.fetchval("SELECT pg_sleep(5)")


async def test_a_statement_that_is_cancelled_is_unavailable(pool: Pool, conn: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sleep_is_unavailable(pool))
        await eventually(lambda: conn.fetchval(CANCEL_SLEEPER))


CANCEL_SLEEPER = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'
"""


async def sleep_is_unavailable(pool: Pool) -> None:
    with pytest.raises(Unavailable):
        await ask(pool, "SELECT pg_sleep(10)")


async def test_a_database_that_is_killed_is_unavailable_and_then_back(
    servers: Stores, pool: Pool, conn: Any
) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sleep_is_unavailable(pool))
        await eventually(lambda: conn.fetchval(IS_ASLEEP))
        pid = servers.kill("postgres", SIGKILL)
    await asyncio.to_thread(servers.wait_replaced, "postgres", pid)
    await eventually(lambda: is_back(pool))


IS_ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"


async def is_back(pool: Pool) -> bool:
    try:
        return await ask(pool) == 1
    except Unavailable:
        return False


async def test_what_was_committed_counts_although_its_connection_broke_right_after(
    pool: Pool, conn: Any
) -> None:
    await conn.execute("CREATE TABLE kept (x int)")
    async with connection(pool) as held:
        pid = held.get_server_pid()
        await held.execute("INSERT INTO kept VALUES (1)")
        # The server hangs up between the last statement and the return to the pool.
        await conn.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    assert await conn.fetchval("SELECT count(*) FROM kept") == 1
    assert await ask(pool) == 1
