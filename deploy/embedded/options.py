"""What the operator may choose: TIMELOOM_DATA, TIMELOOM_HOST, TIMELOOM_PORT and two rarer ones."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import CannotRun

DEFAULT_PORT = 8080
# Ready takes about three seconds here; this is for a laptop that is busy with something else.
DEFAULT_START_SECONDS = 90.0
HIGHEST_PORT = 65_535


@dataclass(frozen=True, kw_only=True)
class Options:
    """`port` 0 means any free one; `start_seconds` bounds the time until everything is ready.

    `postgres_options` are added to the server's command line.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    start_seconds: float = DEFAULT_START_SECONDS
    postgres_options: tuple[str, ...] = ()


def from_environment(env: Mapping[str, str]) -> Options:
    """Options from `env`; an empty value counts as absent.

    Raises:
        CannotRun: A value makes no sense; the message names the variable.
    """
    return Options(
        data=Path(env.get("TIMELOOM_DATA") or ".timeloom").expanduser().absolute(),
        host=env.get("TIMELOOM_HOST") or "127.0.0.1",
        port=parse_port(env.get("TIMELOOM_PORT") or str(DEFAULT_PORT)),
        start_seconds=parse_seconds(
            env.get("TIMELOOM_START_SECONDS") or str(DEFAULT_START_SECONDS)
        ),
        postgres_options=tuple(shlex.split(env.get("TIMELOOM_POSTGRES_OPTIONS") or "")),
    )


def parse_port(text: str) -> int:
    """Raises CannotRun unless `text` is a whole number from 0 to 65535."""
    if not text.isdecimal() or int(text) > HIGHEST_PORT:
        raise CannotRun(f"TIMELOOM_PORT is {text!r}; it must be a number from 0 to {HIGHEST_PORT}")
    return int(text)


def parse_seconds(text: str) -> float:
    """Raises CannotRun unless `text` is a number above zero."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise CannotRun(f"TIMELOOM_START_SECONDS is {text!r}; it must be a number above zero")
    return seconds
