"""One operating system process: started tied to this one, logged to a file, stopped in steps."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

from deploy.embedded.errors import CannotRun

LOG_KEEP_BYTES = 5 * 1024 * 1024
TETHER = Path(__file__).with_name("tether.py")


class RunAs(StrEnum):
    """Who a program runs as; tether.py explains the three."""

    SELF = "self"
    NAMESPACE = "namespace"
    NOBODY = "nobody"


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run. `env` is the whole environment of the program, nothing is inherited.

    `death_signal` is what the kernel sends it when the runner dies without stopping it; Linux only.
    `grace_seconds` is the time between `stop_signal` and SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    log: Path
    cwd: Path
    run_as: RunAs = RunAs.SELF
    stop_signal: Signals = SIGTERM
    death_signal: Signals = SIGKILL
    grace_seconds: float = 25.0


def tethered(program: Program) -> tuple[str, ...]:
    """The command line that runs `program` tied to this process."""
    if sys.platform != "linux":
        return program.argv
    return (
        # -I and -S keep the start at about 15 ms: no site packages, no user settings.
        *(sys.executable, "-I", "-S", str(TETHER)),
        *(str(os.getpid()), str(int(program.death_signal)), program.run_as),
        *program.argv,
    )


class Child:
    """A started program."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process) -> None:
        self.program = program
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, program: Program) -> "Child":
        """Start `program` in a session of its own, so Ctrl-C reaches only the runner.

        Raises:
            OSError: The program or its log cannot be opened.
        """
        turn_over(program.log)
        with program.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *tethered(program),
                env=dict(program.env),
                cwd=program.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return cls(program, process)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """The exit status; negative is the signal that killed it."""
        return await self._process.wait()

    def send(self, signal: Signals) -> None:
        """Send `signal`; a process that is already gone is not an error."""
        if self.alive:
            self._process.send_signal(signal)


def turn_over(log: Path) -> None:
    """Set a log that has grown past 5 MiB aside as ``<name>.1``, replacing the one before."""
    if log.exists() and log.stat().st_size > LOG_KEEP_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def tail(log: Path, lines: int = 12) -> str:
    """The last `lines` lines, indented; empty when there is no log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 64 * 1024))
        text = file.read().decode(errors="replace")
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


@dataclass(frozen=True)
class Outcome:
    """How a short command ended; `output` is stdout and stderr together."""

    status: int
    output: str


async def run_to_end(
    name: str,
    argv: tuple[str, ...],
    env: Mapping[str, str],
    cwd: Path,
    *,
    run_as: RunAs = RunAs.SELF,
    timeout_seconds: float = 60.0,
) -> Outcome:
    """Run a command that ends by itself.

    Raises:
        CannotRun: It did not end in time; it is killed.
        OSError: It cannot be started.
    """
    program = Program(name=name, argv=argv, env=env, log=Path(os.devnull), cwd=cwd, run_as=run_as)
    process = await asyncio.create_subprocess_exec(
        *tethered(program),
        env=dict(env),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise CannotRun(f"{name} did not end within {timeout_seconds:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Outcome(process.returncode or 0, output.decode(errors="replace").strip())
