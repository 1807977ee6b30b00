"""The commands: up, stores, down, status."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from signal import SIGHUP, SIGINT, SIGTERM

from deploy.embedded import options, processes
from deploy.embedded.console import Console
from deploy.embedded.errors import CannotRun
from deploy.embedded.folder import DataFolder
from deploy.embedded.options import Options
from deploy.embedded.services import SERVICES, Service
from deploy.embedded.suite import Stop, Suite

CANNOT = 1
NOT_RUNNING = 3  # as service managers report it

EPILOG = """\
environment:
  TIMELOOM_PORT           public port (8080; 0 takes any free one)
  TIMELOOM_HOST           public address (127.0.0.1)
  TIMELOOM_DATA           data folder (.timeloom)
  TIMELOOM_START_SECONDS  longest time to wait until everything is ready (90)
  TIMELOOM_POSTGRES_OPTIONS  more options of postgres, such as: -c log_statement=all
  <SERVICE>_LOG_LEVEL, OTEL_EXPORTER_OTLP_ENDPOINT and other settings reach the services.
"""


def parser() -> argparse.ArgumentParser:
    """The command line; one sub-command for each function `do_…`."""
    top = argparse.ArgumentParser(
        prog="python -m deploy.embedded",
        description="Runs Timeloom on this machine, without containers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in (
        ("up", "start stores and services, keep them running, stop them on Ctrl-C"),
        ("stores", "the same with PostgreSQL, NATS and Valkey only"),
        ("down", "stop what runs in the data folder"),
        ("status", "say what runs in the data folder; exits 0 only when all of it is ready"),
    ):
        commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    return top


def main(arguments: Sequence[str] | None = None, services: Sequence[Service] = SERVICES) -> int:
    """Run one command; returns the exit status."""
    command = parser().parse_args(arguments).command
    console = Console()
    try:
        chosen = options.from_environment(os.environ)
        folder = DataFolder(chosen.data)
        if command == "status":
            return do_status(folder, console)
        if command == "down":
            return asyncio.run(do_down(folder, console))
        with folder.claim():
            asyncio.run(do_up(folder, chosen, services if command == "up" else (), console))
    except CannotRun as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT
    return 0


async def do_up(
    folder: DataFolder, chosen: Options, services: Sequence[Service], console: Console
) -> None:
    """Raises CannotRun when the suite cannot start or become ready."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    for signal in (SIGINT, SIGTERM, SIGHUP):
        loop.add_signal_handler(signal, stop.ask)
    suite = Suite(folder, chosen, services, inherited=dict(os.environ), console=console, stop=stop)
    await suite.run()


async def do_down(folder: DataFolder, console: Console) -> int:
    """Ask the runner of the folder to stop, and wait until it has."""
    pid = folder.holder()
    if pid is None:
        console.say(f"nothing runs in {folder.root}")
        return 0
    console.say(f"stopping the Timeloom in {folder.root} (pid {pid})")
    if not await processes.end(pid, SIGTERM, seconds=60.0):
        console.say("it did not stop in time and was killed; nothing acknowledged is lost")
    return 0


def do_status(folder: DataFolder, console: Console) -> int:
    """Print state and components of the folder's runner."""
    pid = folder.holder()
    if pid is None:
        console.say(f"nothing runs in {folder.root}")
        return NOT_RUNNING
    record = folder.read_record()
    rows = {
        name: f"{'ready' if part['ready'] else 'not ready'}, pid {part['pid']}, "
        f"{part['restarts']} restarts, log {folder.log(name)}"
        for name, part in record.get("components", {}).items()
    }
    state = record.get("state", "starting")
    console.card(f"Timeloom is {state} in {folder.root} (pid {pid}), {record.get('url')}", rows)
    ready = all(part["ready"] for part in record.get("components", {}).values())
    return 0 if state == "ready" and ready else NOT_RUNNING
