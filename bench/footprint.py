"""What the suite costs when nothing happens: time to start, memory at rest."""

import asyncio

import psutil

from bench.table import Row, at_most

SETTLE_SECONDS = 5


def memory_of(pids: list[int]) -> float:
    """Bytes of proportional memory of processes and their children: shared pages count once."""
    total = 0
    for pid in pids:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_full_info().pss
    return float(total)


async def idle(pids: dict[str, int], runner: int) -> Row:
    """Everything that runs, after a moment of rest."""
    await asyncio.sleep(SETTLE_SECONDS)
    parts = {name: memory_of([pid]) / 1e6 for name, pid in pids.items()}
    note = ", ".join(f"{name} {megabytes:.0f}" for name, megabytes in parts.items())
    # The runner is the parent of all: its own tree is the whole suite.
    return at_most(
        "footprint", "whole suite idle, stores included", memory_of([runner]) / 1e6, 700, "MB", note
    )
