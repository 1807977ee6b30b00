"""Roles, databases and migrations, in the way every deployment does them: roles.sql, then dbmate."""

import os
from collections.abc import Mapping
from pathlib import Path

from deploy.embedded import wheels
from deploy.embedded.child import run_to_end
from deploy.embedded.errors import CannotRun
from deploy.embedded.postgres import Postgres

ROLES = wheels.REPOSITORY / "deploy" / "postgres" / "roles.sql"


async def create(postgres: Postgres, passwords: Mapping[str, str]) -> None:
    """Make what is missing of the roles and their databases, and set the roles' passwords.

    Raises:
        CannotRun: PostgreSQL refused; the message is its own.
    """
    outcome = await postgres.psql(
        "-f",
        str(ROLES),
        environment={f"{role.upper()}_POSTGRES_PASSWORD": word for role, word in passwords.items()},
    )
    if outcome.status != 0:
        raise CannotRun(f"the databases cannot be made:\n{outcome.output}")


async def migrate(name: str, dsn: str, folders: tuple[Path, ...]) -> None:
    """Apply what is missing of the migrations in `folders`, in the order of their numbers.

    Raises:
        CannotRun: A migration failed, or a folder is missing.
    """
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise CannotRun(f"no migrations for {name}: {', '.join(missing)} is not there")
    arguments = [word for folder in folders for word in ("--migrations-dir", str(folder))]
    outcome = await run_to_end(
        "dbmate",
        # No .env of the current folder, and no schema file: the migrations are the schema.
        (str(wheels.dbmate()), "--env-file", os.devnull, "--no-dump-schema", *arguments, "migrate"),
        # The connection string holds a password, so it is not an argument.
        {"PATH": os.defpath, "DATABASE_URL": dsn + "?sslmode=disable"},
        wheels.REPOSITORY,
        timeout_seconds=300.0,
    )
    if outcome.status != 0:
        raise CannotRun(f"the migrations of {name} failed:\n{outcome.output}")
