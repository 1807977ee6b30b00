"""What the operator sees: one line for each thing that happened, and where everything is."""

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from rich.console import Console as RichConsole
from rich.text import Text

NAME_WIDTH = 12
LABEL_WIDTH = 19


class Console:
    """Plain lines; on a terminal with colours. Never fails: a closed terminal is ignored."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._started = time.monotonic()
        self._rich = RichConsole(file=stream or sys.stdout, highlight=False, soft_wrap=True)

    def happened(self, name: str, sentence: str) -> None:
        """Something about one component, with the seconds since the start."""
        seconds = time.monotonic() - self._started
        line = Text(f"{seconds:7.2f} s  ", style="dim")
        line.append(f"{name:<{NAME_WIDTH}}", style="bold")
        line.append(sentence, style="green" if sentence.startswith("ready") else "")
        self._print(line)

    def say(self, sentence: str) -> None:
        """A line about the whole."""
        self._print(Text(sentence))

    def card(self, title: str, rows: Mapping[str, str]) -> None:
        """A title and a few labelled facts, set apart."""
        self._print(Text(f"\n{title}", style="bold green"))
        for label, value in rows.items():
            self._print(Text.assemble((f"{label + ':':<{LABEL_WIDTH}}", "dim"), value))
        self._print(Text(""))

    def _print(self, text: Text) -> None:
        with suppress(OSError):
            self._rich.print(text)
            self._rich.file.flush()
