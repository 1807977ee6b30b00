"""The one table: what was measured, what was budgeted, and where it was measured."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "benchmarks.md"
COMMAND: Final = "make bench"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. `is_met` is None where the architecture sets no budget."""

    area: str
    what: str
    measured: str
    budget: str = ""
    is_met: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """What the budget column says about it."""
        return {True: "met", False: "MISSED", None: ""}[self.is_met]


def at_least(area: str, what: str, value: float, budget: float, unit: str, note: str = "") -> Row:
    """A rate or ratio that should be large."""
    return Row(
        area=area,
        what=what,
        measured=f"{value:,.0f} {unit}",
        budget=f"≥ {budget:,.0f} {unit}",
        is_met=value >= budget,
        note=note,
    )


def at_most(area: str, what: str, value: float, budget: float, unit: str, note: str = "") -> Row:
    """A time or size that should be small."""
    return Row(
        area=area,
        what=what,
        measured=f"{value:,.1f} {unit}",
        budget=f"≤ {budget:,.0f} {unit}",
        is_met=value <= budget,
        note=note,
    )


def plain(area: str, what: str, value: float, unit: str, note: str = "") -> Row:
    """A figure without a budget: a raw limit, or context."""
    return Row(area=area, what=what, measured=f"{value:,.1f} {unit}", note=note)


def show(rows: list[Row], console: Console) -> None:
    """Prints the table."""
    table = Table(title="Timeloom on this machine")
    for name in ("area", "what", "measured", "budget", "", "note"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.area, row.what, row.measured, row.budget, row.verdict, row.note)
    console.print(table)


def write(rows: list[Row], *, date: str) -> None:
    """Writes docs/benchmarks.md with machine, commit and command."""
    lines = [
        "# Benchmarks",
        "",
        f"Measured by `{COMMAND}` on {date}, commit {_commit()}, with every process, the stores and",
        "the load generator on the same machine.",
        f"Machine: {_processor()}, {os.cpu_count()} cores, {_memory()} of memory,",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}.",
        "",
        "The machine is shared and noisy: compare rows of this run with one another.",
        "",
        "| area | what | measured | budget | | note |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.area} | {r.what} | {r.measured} | {r.budget} | {r.verdict} | {r.note} |"
        for r in rows
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _commit() -> str:
    named = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607  # git is where people have it
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return named.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{pages / 2**30:.0f} GiB"
