"""PostgreSQL 18, configured by deploy/postgres/postgresql.conf."""

import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from signal import SIGINT, SIGQUIT

from deploy.embedded import probe, processes, run_as, wheels
from deploy.embedded.child import Outcome, Program, RunAs, run_to_end
from deploy.embedded.errors import CannotRun
from deploy.embedded.folder import DataFolder

MAJOR = "18"
SUPERUSER = "postgres"
CONFIGURATION = wheels.REPOSITORY / "deploy" / "postgres" / "postgresql.conf"


class Postgres:
    """One server on loopback, with passwords.

    `runs_as` None chooses what works here; `options` are added to the command line.
    """

    def __init__(
        self,
        folder: DataFolder,
        password: str,
        *,
        port: int,
        runs_as: RunAs | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.port = port
        self.cluster = folder.root / "postgres" / MAJOR
        self._folder = folder
        self._password = password
        self._options = options
        self._runs_as = runs_as or run_as.choose()
        self._install = wheels.postgres_install()

    def program(self) -> Program:
        """Raises CannotRun when nobody who may run it can reach its files."""
        self._install = run_as.install_for(self._runs_as, self._install, self._folder.root)
        return Program(
            name="postgres",
            argv=(
                *(str(self._install / "bin" / "postgres"), "-D", str(self.cluster)),
                *("-c", f"port={self.port}", *self._options),
            ),
            env=quiet_environment(),
            log=self._folder.log("postgres"),
            cwd=self._folder.root,
            run_as=self._runs_as,
            stop_signal=SIGINT,  # "fast": ends the connections, then writes a checkpoint
            # "Immediate": its backends and shared memory go with it, which SIGKILL would leave.
            death_signal=SIGQUIT,
            grace_seconds=20.0,
        )

    async def prepare(self) -> None:
        """Make the cluster on first use, and the way clear for a start.

        Raises:
            CannotRun: initdb failed, or the cluster is of another major version.
        """
        if not self.cluster.exists():
            await self._initialize()
        await end_leftover(self.cluster)
        shutil.copyfile(CONFIGURATION, self.cluster / "postgresql.conf")
        self._give_away(self.cluster / "postgresql.conf")

    async def _initialize(self) -> None:
        part = self.cluster.with_name(f"{MAJOR}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(mode=0o700, exist_ok=True)
        others = [entry.name for entry in part.parent.iterdir() if entry.name.isdecimal()]
        if others:
            raise CannotRun(
                f"{part.parent} holds PostgreSQL {', '.join(others)} and this is {MAJOR}; move the "
                "data with pg_dump of the old version, or set TIMELOOM_DATA to a new folder"
            )
        password_file = part.parent / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        self._give_away(part.parent, password_file)
        try:
            outcome = await run_to_end(
                "initdb",
                (
                    *(str(self._install / "bin" / "initdb"), "-D", str(part), "-U", SUPERUSER),
                    *("-A", "scram-sha-256", "--pwfile", str(password_file), "-E", "UTF8"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    "--no-instructions",
                ),
                quiet_environment(),
                self._folder.root,
                run_as=self._runs_as,
            )
        finally:
            password_file.unlink()
        if outcome.status != 0:
            raise CannotRun(f"initdb failed:\n{outcome.output}")
        part.rename(self.cluster)

    def _give_away(self, *paths: Path) -> None:
        if self._runs_as is RunAs.NOBODY:
            for path in paths:
                os.chown(path, run_as.NOBODY, run_as.NOBODY)

    async def is_ready(self) -> bool:
        """Whether it takes connections: it answers a greeting by asking for a password."""
        parameters = f"user\0{SUPERUSER}\0database\0postgres\0\0".encode()
        protocol_3 = 196_608
        hello = struct.pack("!ii", 8 + len(parameters), protocol_3) + parameters
        return await probe.exchange(self.port, hello, 1) == b"R"

    def dsn(self, database: str, role: str = SUPERUSER, password: str | None = None) -> str:
        """A connection string; without a password of its own `role` is the superuser."""
        return f"postgresql://{role}:{password or self._password}@127.0.0.1:{self.port}/{database}"

    async def psql(
        self,
        *arguments: str,
        database: str = "postgres",
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run psql as the superuser."""
        return await run_to_end(
            "psql",
            (
                *(str(self._install / "bin" / "psql"), "-X", "-q", "-A", "-t"),
                *("-h", "127.0.0.1", "-p", str(self.port), "-U", SUPERUSER, "-d", database),
                *arguments,
            ),
            {**quiet_environment(), "PGPASSWORD": self._password, **(environment or {})},
            self._folder.root,
        )


def quiet_environment() -> dict[str, str]:
    """Nothing of the operator's own PG… settings, and messages that can be searched for."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "PGCONNECT_TIMEOUT": "10"}


async def end_leftover(cluster: Path) -> None:
    """End a postmaster that outlived its runner, and remove the pid file of one that is gone.

    We hold the data folder, so whoever serves this cluster is a leftover. A pid file left by a
    crash would stop PostgreSQL from starting when its pid has meanwhile gone to another program.
    Backends that take a moment longer to end make the next start fail, and the keeper tries again.
    """
    pid_file = cluster / "postmaster.pid"
    if not pid_file.exists():
        return
    first_line = pid_file.read_text().partition("\n")[0]
    pid = int(first_line) if first_line.isdecimal() else 0
    if pid and processes.works_in(pid, cluster):
        await processes.end(pid, SIGQUIT)
    pid_file.unlink(missing_ok=True)
