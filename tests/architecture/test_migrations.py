"""Migrations are numbered, go up and down, and leave nothing behind."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from deploy.embedded import databases, wheels
from deploy.embedded.child import run_to_end
from deploy.embedded.services import SERVICES
from tests.architecture.sources import KEEPERS, ROOT, files, text
from tests.support.servers import Stores, postgres_dsn

FOLDERS = {"chassis": Path("chassis/migrations")} | {
    service: Path("services") / service / "migrations" for service in KEEPERS
}
NAME = re.compile(r"(?P<number>\d{4})_[a-z0-9]+(_[a-z0-9]+)*\.sql")
UP, DOWN = "-- migrate:up", "-- migrate:down"

# Everything a migration can make, extensions' own things left out.
LEFTOVERS = """
SELECT 'relation ' || c.relname AS thing FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'schema_migrations%'
UNION ALL
SELECT 'function ' || p.proname FROM pg_proc p
WHERE p.pronamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT 'type ' || t.typname FROM pg_type t
WHERE t.typnamespace = 'public'::regnamespace AND t.typname NOT LIKE '%schema_migrations'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
UNION ALL
SELECT 'extension ' || e.extname FROM pg_extension e WHERE e.extname <> 'plpgsql'
UNION ALL
SELECT 'schema ' || n.nspname FROM pg_namespace n
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'public')
"""


def migrations(owner: str) -> list[Path]:
    return [path for path in files() if path.is_relative_to(FOLDERS[owner])]


@pytest.mark.parametrize("owner", FOLDERS)
def test_they_are_numbered_in_the_range_of_their_owner(owner: str) -> None:
    numbers = []
    for path in migrations(owner):
        match = NAME.fullmatch(path.name)
        assert match, f"{path}: not <four digits>_<words>.sql"
        numbers.append(int(match["number"]))
    assert numbers, "no migration"
    assert len(set(numbers)) == len(numbers)
    first, last = (1, 999) if owner == "chassis" else (1001, 9999)
    assert all(first <= number <= last for number in numbers)


@pytest.mark.parametrize("owner", FOLDERS)
def test_each_goes_up_and_down(owner: str) -> None:
    for path in migrations(owner):
        content = text(path)
        assert content.count(UP) == content.count(DOWN) == 1, path
        before, _, rest = content.partition(UP)
        up, _, down = rest.partition(DOWN)
        assert not before.strip(), f"{path}: {UP} comes first"
        assert statements(up), f"{path} does nothing"
        assert statements(down), f"{path} does not go down"


def statements(sql: str) -> str:
    """What is left without comments."""
    return re.sub(r"--.*", "", sql).strip()


@pytest.mark.parametrize("owner", FOLDERS)
def test_constraints_have_names_that_people_may_meet(owner: str) -> None:
    for path in migrations(owner):
        up = statements(text(path).partition(DOWN)[0])
        up = re.sub(r"(CONSTRAINT\s+\w+)\s*\n\s*", r"\1 ", up)
        nameless = re.findall(
            r"^\s*(?:CHECK|UNIQUE|PRIMARY KEY|FOREIGN KEY|EXCLUDE)\b.*", up, re.MULTILINE
        )
        assert not nameless, path
        inline = re.findall(
            r"^\s+\w+ +\w[^,\n]*\b(?:PRIMARY KEY|UNIQUE|REFERENCES|CHECK)\b.*", up, re.MULTILINE
        )
        assert not [line for line in inline if "CONSTRAINT" not in line], path


@pytest.fixture
async def empty(servers: Stores, request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, str]]:
    """A service and the DSN of a database of its own without any table."""
    service: str = request.param
    name = f"down_{service}"
    await servers.execute(f"CREATE DATABASE {name} OWNER {service}")
    yield service, postgres_dsn(servers.port("postgres"), servers.credentials, name, service)
    await servers.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def things(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn, ssl=False)
    rows = await connection.fetch(LEFTOVERS)
    await connection.close()
    return sorted(row["thing"] for row in rows)


@pytest.mark.integration
@pytest.mark.parametrize("empty", KEEPERS, indirect=True)
async def test_down_undoes_up_and_up_works_again(empty: tuple[str, str]) -> None:
    service, dsn = empty
    (folders,) = (one.migrations for one in SERVICES if one.name == service)
    count = len(migrations("chassis")) + len(migrations(service))
    await databases.migrate(service, dsn, folders)
    made = await things(dsn)
    assert made
    for _ in range(count):
        await roll_back_one(dsn, folders)
    assert await things(dsn) == []
    await databases.migrate(service, dsn, folders)
    assert await things(dsn) == made


async def roll_back_one(dsn: str, folders: tuple[Path, ...]) -> None:
    arguments = [word for folder in folders for word in ("--migrations-dir", str(folder))]
    outcome = await run_to_end(
        "dbmate",
        (
            *(str(wheels.dbmate()), "--env-file", os.devnull, "--no-dump-schema"),
            *(*arguments, "rollback"),
        ),
        {"PATH": os.defpath, "DATABASE_URL": dsn + "?sslmode=disable"},
        ROOT,
        timeout_seconds=60.0,
    )
    assert outcome.status == 0, outcome.output
