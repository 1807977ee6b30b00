"""Real servers for tests, started by the same code as `make up`.

    Stores   PostgreSQL, NATS and Valkey on random ports, in a folder of their own
    Suite    the same with the five services, as `make up` starts them

Each runs as a process of its own and dies with the test run, whatever ends it. What both can do
(pid, kill, restart, stop, addresses) is in runner.py.
"""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from deploy.embedded import databases
from deploy.embedded.child import tail
from deploy.embedded.services import SERVICES
from tests.support.runner import Runner, is_alive, postgres_dsn

__all__ = ["Database", "Runner", "Stores", "Suite", "is_alive", "postgres_dsn"]


class Suite(Runner):
    """Stores and services as `make up` starts them, on a random public port."""

    @property
    def api_key(self) -> str:
        """The key of the first organization, as printed by `make up`."""
        return str(json.loads((self.folder.secrets / "first-key.json").read_text())["key"])

    @property
    def owner(self) -> tuple[str, str]:
        """E-mail and password of the first organization's owner."""
        email = json.loads((self.folder.secrets / "first-key.json").read_text())["email"]
        return str(email), self.credentials.owner

    def log(self, name: str) -> str:
        """The end of a service's or store's log."""
        return tail(self.folder.log(name), 60)


@dataclass(frozen=True)
class Database:
    """A migrated database of one test: its name and its owner's connection string."""

    name: str
    dsn: str


class Stores(Runner):
    """The three stores, and fresh databases for tests.

    PostgreSQL does not wait for the disk here: tests kill processes, not the power, and making
    and dropping databases takes half the time.
    """

    command = "stores"

    def __init__(self, root: Path) -> None:
        super().__init__(root, environment={"TIMELOOM_POSTGRES_OPTIONS": "-c fsync=off"})
        self._templates: set[str] = set()

    async def create_database(self, service: str) -> Database:
        """A database with the migrations of `service`, owned by its role, holding no rows.

        The first one of a service is migrated; the others are copies of it.
        """
        template = f"template_{service}"
        if template not in self._templates:
            (found,) = (s for s in SERVICES if s.name == service)
            await self.execute(f"CREATE DATABASE {template} OWNER {service}")
            await databases.migrate(service, self._dsn(template, service), found.migrations)
            self._templates.add(template)
        name = f"test_{service}_{secrets.token_hex(4)}"
        await self.execute(
            f"CREATE DATABASE {name} TEMPLATE {template} OWNER {service} STRATEGY file_copy"
        )
        return Database(name, self._dsn(name, service))

    async def drop_database(self, database: Database) -> None:
        """Drop it, ending connections that a test left open."""
        await self.execute(f"DROP DATABASE {database.name} WITH (FORCE)")

    async def execute(self, statement: str) -> None:
        """Run one statement as superuser in the database `postgres`."""
        connection = await asyncpg.connect(self.superuser_dsn, timeout=10, ssl=False)
        try:
            await connection.execute(statement, timeout=60)
        finally:
            await connection.close(timeout=10)

    def _dsn(self, database: str, service: str) -> str:
        return postgres_dsn(self.port("postgres"), self.credentials, database, service)
