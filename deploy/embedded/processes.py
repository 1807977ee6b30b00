"""Processes that are not our children: those of an earlier run, and whoever works in a folder."""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Any

import psutil

END_SECONDS = 10.0
POLL_SECONDS = 0.02
ADJUSTMENT_SECONDS = 2.0


def born(pid: int) -> float:
    """When `pid` started, as the kernel says; pid and birth name one process for ever.

    Zero when there is no such process, or only its exit status is left.
    """
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return float(process.create_time()) if alive else 0.0
    except psutil.Error:
        return 0.0


def is_the_one(pid: int, birth: float) -> bool:
    """Whether `pid` is still the process that `born` gave `birth` for.

    Births are compared loosely: the kernel counts from boot, and the wall time of that is adjusted.
    """
    return abs(born(pid) - birth) < ADJUSTMENT_SECONDS


def works_in(pid: int, folder: Path) -> bool:
    """Whether `pid` runs with `folder` as its working directory."""
    try:
        return Path(psutil.Process(pid).cwd()) == folder
    except psutil.Error:
        return False


async def end(pid: int, signal: Signals, seconds: float = END_SECONDS) -> bool:
    """Send `signal`, and SIGKILL after `seconds`. Returns whether SIGKILL was not needed.

    Raises:
        PermissionError: The process belongs to somebody else.
    """
    birth = born(pid)
    if not birth:
        return True
    with suppress(ProcessLookupError):
        os.kill(pid, signal)
        try:
            async with asyncio.timeout(seconds):
                # It is not our child, so nothing tells us when it ends.
                while is_the_one(pid, birth):  # noqa: ASYNC110  # as said above
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            os.kill(pid, SIGKILL)
            return False
    return True


async def end_earlier(record: Mapping[str, Any]) -> list[str]:
    """End what an earlier run recorded and left running; returns the names.

    Linux ends them with the runner, so there this finds nothing. PostgreSQL is left to
    postgres.py, which ends it more gently.
    """
    ended = []
    for name, component in record.get("components", {}).items():
        pid, birth = component.get("pid") or 0, component.get("born") or 0.0
        if name != "postgres" and pid and is_the_one(pid, birth):
            await end(pid, SIGKILL)
            ended.append(name)
    return ended
