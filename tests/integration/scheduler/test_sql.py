"""Every statement of the store is one that the migrated database accepts."""

import importlib
import pkgutil
import re

import pytest

from chassis.postgres import connection
from services.scheduler import store
from services.scheduler.system import keep_partitions
from tests.integration.scheduler.conftest import Parts

pytestmark = pytest.mark.integration


def statements() -> dict[str, str]:
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules(store.__path__):
        contents = vars(importlib.import_module(f"{store.__name__}.{module.name}"))
        found |= {
            f"{module.name}.{name}": value
            for name, value in contents.items()
            if isinstance(value, str) and re.fullmatch(r"[A-Z][A-Z_]+", name)
        }
    return found


async def test_every_statement_prepares(parts: Parts) -> None:
    found = statements()
    assert len(found) > 40
    async with connection(parts.pool) as conn:
        for name, statement in found.items():
            try:
                await conn.prepare(statement)
            except Exception as error:
                raise AssertionError(f"{name}: {error}") from error


async def test_partitions_are_kept(parts: Parts) -> None:
    await keep_partitions(parts.pool)
    names = "SELECT relname FROM pg_class WHERE relname ~ '^(fires|runs|attempts).*_[0-9]{8}$'"
    made = await parts.rows(names)
    assert len(made) == 5 * 8
    # As if the scheduler had been away: one is far too old, one is missing and has a row meanwhile.
    await parts.execute(
        "CREATE TABLE runs_day_20200101 PARTITION OF runs_day"
        " FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
    )
    today = (await parts.rows("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD') AS day"))[0]
    await parts.execute(f"DROP TABLE fires_{today['day']}")
    await parts.plan()
    await parts.firing.fire_due()
    assert await parts.rows("SELECT run_id FROM fires_default")
    (changed,) = await parts.rows("SELECT keep_day_partitions('fires', 'scheduled_for', 7, 8) AS n")
    assert changed["n"] == 1
    assert not await parts.rows("SELECT run_id FROM fires_default")
    assert len(await parts.rows("SELECT run_id FROM fires")) == 1
    (changed,) = await parts.rows("SELECT keep_day_partitions('runs_day', 'shelved_on', 7, 1) AS n")
    assert changed["n"] == 1
    assert len(await parts.rows(names)) == 5 * 8
