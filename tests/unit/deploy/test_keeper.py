"""Keeping one program running: what is tried again, what is given up, what is said."""

import asyncio
import sys
from pathlib import Path
from signal import SIGKILL

import pytest

from deploy.embedded.child import LOG_KEEP_BYTES, Program, tail, turn_over
from deploy.embedded.errors import CannotRun, NeverReady
from deploy.embedded.keeper import FALLS_BEFORE_GIVING_UP, Keeper, describe_exit
from tests.support.eventually import eventually


def python(tmp_path: Path, code: str, *, grace_seconds: float = 5.0) -> Program:
    return Program(
        name="program",
        argv=(sys.executable, "-I", "-S", "-c", code),
        env={},
        log=tmp_path / "program.log",
        cwd=tmp_path,
        grace_seconds=grace_seconds,
    )


def keeper(program: Program, said: list[str], ready_file: Path | None = None) -> Keeper:
    def is_ready() -> bool:
        return ready_file is not None and ready_file.exists()

    async def ready() -> bool:
        return is_ready()

    return Keeper(program, ready, lambda _, what: said.append(what), hurry=asyncio.Event())


async def test_a_program_that_keeps_falling_is_given_up_with_its_log(tmp_path: Path) -> None:
    said: list[str] = []
    falling = keeper(python(tmp_path, "import sys; print('no database'); sys.exit(4)"), said)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        falling.start(tasks)
        with pytest.raises(NeverReady, match=r"program exited with status 4 .*\n.*no database"):
            await falling.wait_ready()
    assert len(said) == FALLS_BEFORE_GIVING_UP - 1
    assert [what.split(";")[1].strip() for what in said] == [
        "restarting in 0.1 s",
        "restarting in 0.5 s",
        "restarting in 1.0 s",
    ]


async def test_a_program_that_cannot_be_started_fails_at_once(tmp_path: Path) -> None:
    program = Program(
        name="program", argv=("x",), env={}, log=tmp_path / "log", cwd=tmp_path / "absent"
    )
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        missing = keeper(program, [])
        missing.start(tasks)
        with pytest.raises(CannotRun, match="program cannot be started"):
            await missing.wait_ready()


async def test_a_fall_after_readiness_is_repaired_and_said(tmp_path: Path) -> None:
    ready_file, said = tmp_path / "ready", list[str]()
    code = f"import pathlib, time\npathlib.Path({str(ready_file)!r}).touch()\ntime.sleep(60)"
    steady = keeper(python(tmp_path, code), said, ready_file)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        steady.start(tasks)
        await steady.wait_ready()
        first = steady.child
        assert first is not None
        ready_file.unlink()
        first.send(SIGKILL)
        await eventually(lambda: steady.child is not first and steady.ready)
        await steady.stop()
    assert said == ["was killed by SIGKILL; restarting in 0.1 s", "is ready again"]
    assert steady.restarts == 1


async def test_a_program_that_does_not_stop_is_killed_and_that_is_said(tmp_path: Path) -> None:
    ready_file, said = tmp_path / "ready", list[str]()
    code = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(ready_file)!r}).touch()\n"
        "time.sleep(60)"
    )
    stubborn = keeper(python(tmp_path, code, grace_seconds=0.2), said, ready_file)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        stubborn.start(tasks)
        await stubborn.wait_ready()
        await stubborn.stop()
    assert stubborn.child is not None
    assert not stubborn.child.alive
    assert said == ["did not stop in time and is killed"]


async def test_stopping_what_was_never_started_is_nothing(tmp_path: Path) -> None:
    idle = keeper(python(tmp_path, ""), [])
    await idle.stop()
    assert idle.child is None


def test_exits_are_described_in_words() -> None:
    assert describe_exit(3) == "exited with status 3"
    assert describe_exit(-9) == "was killed by SIGKILL"


def test_a_log_is_set_aside_only_when_it_is_large(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("small")
    turn_over(log)
    assert log.exists()
    with log.open("ab") as file:
        file.truncate(LOG_KEEP_BYTES + 1)
    turn_over(log)
    assert not log.exists()
    assert (tmp_path / "a.log.1").exists()


def test_the_tail_is_the_last_lines_indented(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert tail(log) == ""
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(20_000)) + b"\xff\n")
    assert tail(log, 2) == "    line 19999\n    \ufffd"
