"""/livez, /readyz and /metrics over HTTP, for the services that have no HTTP edge of their own.

Live means the loop turns. Ready means every dependency answered just now; otherwise 503 with the
names of those that did not, so that nobody has to guess.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chassis import telemetry
from chassis.settings import split_listen

CHECK_SECONDS: Final = 2.0
WATCH_SECONDS: Final = 10.0
Check = Callable[[], Awaitable[None]]

_ready = telemetry.meter.create_gauge("timeloom.process.ready", "{process}")


class Probe:
    """The dependencies of one process. `is_draining` makes it unready before it stops."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self.is_started = False
        self.is_draining = False

    async def examine(self) -> dict[str, str]:
        """Each dependency with `ok` or what is wrong with it; checks run side by side."""
        state = {"process": "ok"}
        if self.is_draining:
            state["process"] = "draining"
        elif not self.is_started:
            state["process"] = "starting"
        async with asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(_answer(check)) for name, check in self._checks.items()
            }
        return state | {name: task.result() for name, task in tasks.items()}

    async def watch(self, stopping: asyncio.Event) -> None:
        """Measures readiness until stopped, whether or not anybody asks /readyz."""
        while not stopping.is_set():
            for name, answer in (await self.examine()).items():
                _ready.set(int(answer == "ok"), {"timeloom.dependency": name})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await stopping.wait()


async def _answer(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        return "no answer in time"
    except Exception as error:  # noqa: BLE001  # whatever is wrong with a dependency is the answer
        return str(error) or type(error).__name__
    return "ok"


def is_ready(state: Mapping[str, str]) -> bool:
    """Whether every part said ok."""
    return all(value == "ok" for value in state.values())


class QuietServer(uvicorn.Server):
    """uvicorn that leaves signals to `lifecycle`."""

    def install_signal_handlers(self) -> None:
        """Signals belong to the process, not to one of its servers."""

    async def run_until(self, stopping: asyncio.Event) -> None:
        """Serves until stopped, then lets running requests end."""
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(self._serve())
            await stopping.wait()
            self.should_exit = True
            await serving


class HealthServer:
    """The small HTTP server of a service without an edge."""

    def __init__(self, *, listen: str, probe: Probe) -> None:
        host, port = split_listen(listen)
        self._probe = probe
        self._server = QuietServer(
            uvicorn.Config(
                self._application,
                # uvicorn takes a bound method for the older interface unless it is told.
                interface="asgi3",
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=2,
            )
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Serves until stopped."""
        await self._server.run_until(stopping)

    async def _application(self, scope: dict[str, Any], _receive: Any, send: Any) -> None:
        match scope.get("path"):
            case "/livez":
                await _reply(send, 200, b'{"status":"ok"}', b"application/json")
            case "/readyz":
                state = await self._probe.examine()
                status = 200 if is_ready(state) else 503
                await _reply(send, status, msgspec.json.encode(state), b"application/json")
            case "/metrics":
                await _reply(send, 200, generate_latest(), CONTENT_TYPE_LATEST.encode())
            case _:
                await _reply(send, 404, b"", b"text/plain")


async def _reply(send: Any, status: int, body: bytes, content_type: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
