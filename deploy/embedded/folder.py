"""The data folder: where everything lies, who holds it, what runs in it.

timeloom.json   marks the folder as ours
lock            held by the runner; contains its pid
run.json        ports, processes and readiness of the current run; no secrets
secrets/        passwords, keys, the first API key; readable by the owner only
postgres/ nats/ valkey/   what the stores keep
logs/           one file per process; over 5 MiB it becomes <name>.log.1 at the next start
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from deploy.embedded.errors import CannotRun, InUse

FORMAT = 1
# What a folder may already hold when we first use it: nothing that could be lost or mixed up.
HARMLESS = {"lost+found", ".gitkeep", ".DS_Store", "lock", "timeloom.json.part"}


class DataFolder:
    """Paths of one data folder. Nothing is made before `claim`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.marker = root / "timeloom.json"
        self.lock = root / "lock"
        self.record = root / "run.json"
        self.secrets = root / "secrets"
        self.logs = root / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the folder for this process; make its parts if it is new.

        The lock goes with the process that holds it, so one left by a killed runner never blocks.

        Raises:
            InUse: Another runner holds it.
            CannotRun: It cannot be written, or holds somebody else's files.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_strangers()
            file = self.lock.open("a+", encoding="ascii")
        except OSError as error:
            raise CannotRun(f"cannot use {self.root}: {error.strerror}; {FIX}") from error
        with file:
            self._take(file)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            if not self.marker.exists():
                write_private(self.marker, json.dumps({"format": FORMAT}))
            self.secrets.mkdir(mode=0o700, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            yield

    def _take(self, file: IO[str]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = read_pid(self.lock)
            raise InUse(f"another Timeloom is using {self.root} (pid {pid}); {FIX}", pid) from error

    def _refuse_strangers(self) -> None:
        if self.marker.exists():
            if json.loads(self.marker.read_text()).get("format") != FORMAT:
                raise CannotRun(f"{self.root} was written by another version; {FIX}")
            return
        strangers = {entry.name for entry in self.root.iterdir()} - HARMLESS
        if strangers:
            raise CannotRun(f"{self.root} holds other files ({min(strangers)}, …); {FIX}")

    def holder(self) -> int | None:
        """The pid of the runner that holds the folder, None when nobody does.

        Asking takes the lock for some microseconds: a runner that claims the folder at that very
        moment is told it is in use, and may be started again.
        """
        if not self.lock.exists():
            return None
        with self.lock.open("a+", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return read_pid(self.lock)
        return None

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace run.json in one step, so that a reader sees the old or the new one."""
        write_private(self.record, json.dumps(record, indent=2) + "\n", durable=False)

    def read_record(self) -> dict[str, Any]:
        """What the current or the last runner wrote; empty when there is none or it is torn."""
        with suppress(OSError, ValueError):
            record = json.loads(self.record.read_text())
            if isinstance(record, dict):
                return record
        return {}


FIX = "set TIMELOOM_DATA to a folder of your own, for example TIMELOOM_DATA=/var/tmp/timeloom"


def read_pid(lock: Path) -> int:
    """The pid in a lock file; 0 when its holder has not written it yet."""
    text = lock.read_text(encoding="ascii").strip()
    return int(text) if text.isdecimal() else 0


def write_private(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file that only its owner may read, whole or not at all.

    `durable` waits until it would survive a power failure.
    """
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    part.replace(path)
