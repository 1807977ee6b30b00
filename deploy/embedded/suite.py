"""The whole suite: what is started, in which order, what is printed, and how it is stopped.

The three stores start together. Each service starts as soon as what it needs is there: NATS, its
own database with its migrations applied, Valkey for the one that uses it. Stopping goes the other
way round: services first, so that they can finish what they have accepted, then the stores.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploy.embedded import databases, probe, processes
from deploy.embedded.child import Program, tail
from deploy.embedded.console import Console
from deploy.embedded.errors import CannotRun, NeverReady
from deploy.embedded.first_key import first_key
from deploy.embedded.folder import DataFolder
from deploy.embedded.keeper import Keeper, Prepare, Ready, nothing_to_prepare
from deploy.embedded.layout import lay_out
from deploy.embedded.options import Options
from deploy.embedded.services import GRACE_SECONDS, Service
from deploy.embedded.wheels import REPOSITORY

STORE_POLL_SECONDS = 0.02
SERVICE_POLL_SECONDS = 0.1
REPEAT_SECONDS = 1.0


@dataclass
class Stop:
    """The operator's wish to stop; repeated, it is urgent.

    One wish may arrive twice: make passes on the signal that its whole process group got. So only
    a repetition after a second counts.
    """

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    urgent: asyncio.Event = field(default_factory=asyncio.Event)
    _first_asked: float = 0.0

    def ask(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self.asked.is_set():
            self._first_asked = now
            self.asked.set()
        elif now - self._first_asked > REPEAT_SECONDS:
            self.urgent.set()


class Suite:
    """Stores and services in one data folder, which the caller has claimed.

    `inherited` is the environment that services get besides their own settings.
    """

    def __init__(
        self,
        folder: DataFolder,
        options: Options,
        services: Sequence[Service],
        *,
        inherited: Mapping[str, str],
        console: Console,
        stop: Stop,
    ) -> None:
        """Nothing runs yet. Raises CannotRun when the public port is taken."""
        self._folder = folder
        self._start_seconds = options.start_seconds
        self._services = services
        self._inherited = inherited
        self._console = console
        self._stop = stop
        self._state = "starting"
        self._databases_made = asyncio.Event()
        self._layout = lay_out(folder, options, services)
        postgres, nats, valkey = self._layout.postgres, self._layout.nats, self._layout.valkey
        self._postgres = self._keeper(
            postgres.program(), postgres.is_ready, prepare=postgres.prepare
        )
        self._nats = self._keeper(nats.program(), nats.is_ready)
        self._valkey = self._keeper(valkey.program(), valkey.is_ready, prepare=valkey.prepare)
        self._stores = (self._postgres, self._nats, self._valkey)
        self._keepers = {service.name: self._service_keeper(service) for service in services}

    async def run(self) -> None:
        """Start everything, say so, and keep it running until the operator wants it stopped.

        Raises:
            CannotRun: It did not become ready; everything that was started is stopped again.
        """
        ended = await processes.end_earlier(self._folder.read_record())
        if ended:
            self._console.say(f"ended what an earlier run left behind: {', '.join(ended)}")
        failure: CannotRun | None = None
        async with asyncio.TaskGroup() as tasks:
            try:
                await self._start_unless_stopped(tasks)
                await self._stop.asked.wait()
            except* CannotRun as group:
                failure = CannotRun("\n".join(str(error) for error in leaves(group)))
            finally:
                await self._stop_everything()
        if failure is not None:
            raise failure

    async def _start_unless_stopped(self, tasks: asyncio.TaskGroup) -> None:
        async with asyncio.TaskGroup() as both:
            start = both.create_task(self._start(tasks))
            stop = both.create_task(self._stop.asked.wait())
            await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
            start.cancel()
            stop.cancel()

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        try:
            async with asyncio.timeout(self._start_seconds), asyncio.TaskGroup() as steps:
                for keeper in self._stores:
                    steps.create_task(self._bring_up(keeper, tasks))
                steps.create_task(self._make_databases())
                for service in self._services:
                    steps.create_task(self._start_service(service, tasks))
        except TimeoutError:
            raise NeverReady(self._who_is_late()) from None
        await self._announce_ready()

    async def _bring_up(self, keeper: Keeper, tasks: asyncio.TaskGroup) -> None:
        keeper.start(tasks)
        await keeper.wait_ready()
        self._console.happened(keeper.name, "ready")

    async def _make_databases(self) -> None:
        await self._postgres.wait_ready()
        passwords = self._layout.credentials.postgres
        await databases.create(self._layout.postgres, passwords)
        self._databases_made.set()

    async def _start_service(self, service: Service, tasks: asyncio.TaskGroup) -> None:
        if service.database is not None:
            await self._databases_made.wait()
            await databases.migrate(service.name, self._layout.dsn(service), service.migrations)
        await self._nats.wait_ready()
        if service.uses_valkey:
            await self._valkey.wait_ready()
        await self._bring_up(self._keepers[service.name], tasks)

    def _service_keeper(self, service: Service) -> Keeper:
        port = self._layout.listening[service.name].health
        host = self._layout.reach if service.serves_public_http else "127.0.0.1"

        async def ready() -> bool:
            return await probe.http_status(port, "/readyz", host) == 200

        program = Program(
            name=service.name,
            argv=service.argv,
            env={**self._inherited, **self._layout.environment(service)},
            log=self._folder.log(service.name),
            cwd=REPOSITORY,
            grace_seconds=GRACE_SECONDS,
        )
        return self._keeper(program, ready, poll_seconds=SERVICE_POLL_SECONDS)

    def _keeper(
        self,
        program: Program,
        ready: Ready,
        *,
        prepare: Prepare = nothing_to_prepare,
        poll_seconds: float = STORE_POLL_SECONDS,
    ) -> Keeper:
        return Keeper(
            program,
            ready,
            self._console.happened,
            hurry=self._stop.urgent,
            changed=self._write_record,
            prepare=prepare,
            poll_seconds=poll_seconds,
        )

    async def _announce_ready(self) -> None:
        """The last line is printed when everything, the key included, is there."""
        title, rows = "The stores are ready.", {}
        if any(service.serves_public_http for service in self._services):
            title, rows = f"Timeloom is ready: {self._layout.url}", await self._key_rows()
        else:
            rows = {name: str(port) for name, port in self._layout.addresses().items() if port}
            rows["passwords"] = str(self._folder.secrets / "passwords.json")
        rows |= {"data": str(self._folder.root), "logs": str(self._folder.logs)}
        self._state = "ready"
        self._write_record()
        self._console.card(title, rows)
        self._console.say("Ctrl-C stops it.")

    async def _key_rows(self) -> dict[str, str]:
        layout, secrets = self._layout, self._folder.secrets
        try:
            key = await first_key(
                layout.reach, layout.public_port, secrets, layout.credentials.owner
            )
        except CannotRun as error:
            return {"API key": f"could not be made: {error}"}
        sign_in = f"{key.email}, password in {secrets / 'owner-password'}"
        return {"API key": key.key, "sign in": sign_in}

    async def _stop_everything(self) -> None:
        self._state = "stopping"
        self._write_record()
        self._console.say("stopping; Ctrl-C again hurries")
        for group in (self._keepers.values(), self._stores):
            async with asyncio.TaskGroup() as tasks:
                for keeper in group:
                    tasks.create_task(keeper.stop())
        self._state = "stopped"
        self._write_record()
        self._console.say("stopped")

    def _who_is_late(self) -> str:
        late = [keeper for keeper in (*self._stores, *self._keepers.values()) if not keeper.ready]
        names = ", ".join(keeper.name for keeper in late)
        logs = [f"{keeper.program.log}\n{tail(keeper.program.log)}" for keeper in late]
        return "\n".join([f"not ready after {self._start_seconds:.0f} s: {names}", *logs])

    def _write_record(self) -> None:
        self._folder.write_record(
            {
                "pid": os.getpid(),
                "state": self._state,
                "url": self._layout.url,
                "ports": self._layout.addresses(),
                "components": {
                    keeper.name: described(keeper)
                    for keeper in (*self._stores, *self._keepers.values())
                },
            }
        )


def described(keeper: Keeper) -> dict[str, object]:
    """One component as run.json shows it; `pid` None when it is not running."""
    child = keeper.child
    pid = child.pid if child is not None and child.alive else None
    return {
        "pid": pid,
        "born": processes.born(pid) if pid else None,
        "ready": keeper.ready,
        "restarts": keeper.restarts,
    }


def leaves(group: BaseExceptionGroup[CannotRun]) -> list[CannotRun]:
    """The errors in a group of groups, first come first."""
    found: list[CannotRun] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
