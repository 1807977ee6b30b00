"""One runner of `make up` as a process of the tests: start, look at, kill, restart, stop."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, Self

import psutil

from deploy.embedded.child import Program, tail, tethered
from deploy.embedded.credentials import Credentials, load_or_create
from deploy.embedded.folder import DataFolder
from deploy.embedded.services import SERVICES
from deploy.embedded.wheels import REPOSITORY
from tests.support.eventually import wait_until

START_SECONDS = 90.0
STOP_SECONDS = 60.0


class Runner:
    """One `python -m deploy.embedded` with a data folder of its own.

    `script` replaces ``-m deploy.embedded``; `environment` is added to the current one.
    """

    command = "up"

    def __init__(
        self,
        root: Path,
        *,
        environment: Mapping[str, str] | None = None,
        script: tuple[str, ...] = ("-m", "deploy.embedded"),
    ) -> None:
        self.folder = DataFolder(root)
        self.output = root.with_name(root.name + ".out")
        self.environment = {
            **os.environ,
            "TIMELOOM_PORT": "0",
            **(environment or {}),
            "TIMELOOM_DATA": str(root),
        }
        self._script = script
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start and wait until everything is ready; the public port is a free one.

        Raises:
            AssertionError: It ended, or is not ready in time; with what it printed.
        """
        self.launch()
        try:
            wait_until(self._ready_or_dead, within=START_SECONDS)
            assert self.running, "the runner ended"
            self.assert_own_ports()
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.printed()}") from None
        return self

    def launch(self) -> None:
        """Start without waiting."""
        program = Program(
            name="runner",
            argv=self.command_line(self.command),
            env=self.environment,
            log=self.output,
            cwd=REPOSITORY,
            death_signal=SIGTERM,
        )
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                tethered(program),
                env=self.environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def command_line(self, command: str) -> tuple[str, ...]:
        """What runs `command` on this data folder, with `environment`, in the repository."""
        return (sys.executable, *self._script, command)

    def assert_own_ports(self) -> None:
        """Every port of the record is served by the process of the record, nobody else's."""
        record = self.record
        expected = {name: self.port(name) for name in ("postgres", "nats", "valkey")}
        for name, own in record["ports"]["services"].items():
            expected[name] = own["health"]
        for name, port in expected.items():
            listening = {
                connection.laddr.port
                for connection in psutil.Process(self.pid(name)).net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
            assert port in listening, f"{name} listens on {listening}, not on {port}"

    def _ready_or_dead(self) -> bool:
        # The pid tells our record from the one that an earlier run left in the folder.
        record = self.record
        ready = record.get("state") == "ready" and record.get("pid") == self.runner_pid
        return ready or not self.running

    @property
    def runner_pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def printed(self) -> str:
        """The end of what it printed so far."""
        return tail(self.output, 60)

    @property
    def record(self) -> dict[str, Any]:
        """run.json as it is now."""
        return self.folder.read_record()

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        return str(self.record["url"])

    def port(self, name: str) -> int:
        """The port of a store: postgres, nats, nats_monitor or valkey."""
        return int(self.record["ports"][name])

    def component(self, name: str) -> dict[str, Any]:
        """pid, readiness and restarts of a service or store."""
        found: dict[str, Any] = self.record["components"][name]
        return found

    def pid(self, name: str) -> int:
        """The pid of a running service or store; it is a child of this runner."""
        pid = self.component(name)["pid"]
        assert isinstance(pid, int), f"{name} is not running"
        return pid

    def kill(self, name: str, signal: Signals = SIGKILL) -> int:
        """Send a signal to a service or store; returns the pid it had."""
        pid = self.pid(name)
        os.kill(pid, signal)
        return pid

    def wait_replaced(self, name: str, old_pid: int, *, within: float = 30.0) -> int:
        """Wait until another process than `old_pid` is ready under that name; its pid."""

        def replaced() -> int:
            component = self.component(name)
            return int(component["pid"] or 0) if component["ready"] else 0

        return wait_until(lambda: replaced() not in {0, old_pid} and replaced(), within=within)

    def restart(self, name: str, signal: Signals = SIGTERM) -> int:
        """End a service or store and wait for its successor; returns the new pid."""
        return self.wait_replaced(name, self.kill(name, signal))

    @property
    def credentials(self) -> Credentials:
        """Every password of this installation."""
        return load_or_create(self.folder.secrets)

    @property
    def superuser_dsn(self) -> str:
        """PostgreSQL's superuser in the database `postgres`."""
        return postgres_dsn(self.port("postgres"), self.credentials, "postgres", "postgres")

    def dsn(self, service: str) -> str:
        """The connection string of a service's own database."""
        (database,) = (s.database for s in SERVICES if s.name == service and s.database)
        return postgres_dsn(self.port("postgres"), self.credentials, database, service)

    def nats(self, user: str = "admin") -> dict[str, Any]:
        """Arguments of `nats.connect` for a user of nats.conf: a service or admin."""
        return nats_arguments(self.nats_url, user, self.credentials)

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self.port('nats')}"

    @property
    def valkey_url(self) -> str:
        return f"redis://:{self.credentials.valkey}@127.0.0.1:{self.port('valkey')}/0"

    def send(self, signal: Signals) -> None:
        """Send a signal to the runner itself; nothing when it has ended."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal)

    def stop(self, signal: Signals = SIGTERM) -> int:
        """Stop everything in order; returns the exit status. Stopping twice does no harm.

        Raises:
            AssertionError: It did not stop in time; it is killed.
        """
        assert self._process is not None, "not started"
        if self.running:
            self._process.send_signal(signal)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the runner did not stop:\n{self.printed()}") from None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def postgres_dsn(port: int, credentials: Credentials, database: str, role: str) -> str:
    """How `role` connects to `database`."""
    return f"postgresql://{role}:{credentials.postgres[role]}@127.0.0.1:{port}/{database}"


def nats_arguments(url: str, user: str, credentials: Credentials) -> dict[str, Any]:
    """What `nats.connect` needs to be `user`, who may only listen to its own inbox."""
    return {
        "servers": [url],
        "user": user,
        "password": credentials.nats[user],
        "inbox_prefix": f"_INBOX.{user}".encode(),
    }


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False
