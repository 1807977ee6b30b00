"""Every statement of the store prepares, and the migrations go both ways."""

import importlib
import pkgutil
from pathlib import Path

import asyncpg

import services.ingest.store
from deploy.embedded import wheels
from deploy.embedded.child import run_to_end
from tests.integration.ingest.conftest import Replica, event

STATEMENTS = {
    f"{found.name}.{name}": value
    for found in pkgutil.iter_modules(services.ingest.store.__path__)
    for name, value in vars(importlib.import_module(f"services.ingest.store.{found.name}")).items()
    if name.isupper() and isinstance(value, str)
}


async def test_every_statement_prepares(dsn: str):
    conn = await asyncpg.connect(dsn, ssl=False)
    broken = {}
    for name, statement in STATEMENTS.items():
        try:
            await conn.prepare(statement)
        except asyncpg.PostgresError as error:
            broken[name] = str(error)
    await conn.close()
    assert len(STATEMENTS) > 20
    assert broken == {}


async def test_the_migrations_can_be_taken_back_and_applied_again(dsn: str, replica: Replica):
    await replica.agent().sent(event(0), ids=["a"])
    folder = Path("services/ingest/migrations")
    for step in ("rollback", "migrate"):
        outcome = await run_to_end(
            "dbmate",
            (str(wheels.dbmate()), "--no-dump-schema", "--migrations-dir", str(folder), step),
            {"DATABASE_URL": dsn + "?sslmode=disable", "PATH": "/usr/bin"},
            wheels.REPOSITORY,
        )
        assert outcome.status == 0, outcome.output
    replica.months.forget()
    assert await replica.agent().sent(event(0), ids=["a"]) == (1, 0)
