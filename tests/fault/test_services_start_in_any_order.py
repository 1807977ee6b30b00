"""Services wait for what they need: in any order, with stores that come late or hang."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from urllib.parse import urlsplit

import pytest

from deploy.embedded import ports, probe
from deploy.embedded.child import Child, Program, tail
from deploy.embedded.services import SERVICES, Ports, Wiring, environment
from deploy.embedded.wheels import REPOSITORY
from tests.support.door import Door
from tests.support.eventually import eventually, lasting
from tests.support.people import Person, event
from tests.support.servers import Stores, Suite

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

STORES = ("postgres", "nats", "valkey")
BY_NAME = {service.name: service for service in SERVICES}
BACKWARDS = ("gateway", "realtime", "scheduler", "sessions", "ingest")


class ByHand:
    """The five services without the runner: each starts when it is told to, and never again."""

    def __init__(self, stores: Stores, dsns: dict[str, str], doors: dict[str, Door]) -> None:
        picked = iter(ports.pick(2 * len(SERVICES)))
        self.children: dict[str, Child] = {}
        self._listening = {name: Ports(next(picked), next(picked)) for name in BY_NAME}
        self._stores = stores
        self._dsns = dsns
        self._doors = doors

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening['gateway'].health}"

    async def start(self, name: str) -> None:
        credentials = self._stores.credentials
        nats, valkey = self._doors["nats"].port, self._doors["valkey"].port
        wiring = Wiring(
            credentials=credentials,
            public_listen=urlsplit(self.url).netloc,
            ports=self._listening,
            database=self._dsns.get(name, ""),
            nats_url=f"nats://127.0.0.1:{nats}",
            valkey_url=f"redis://:{credentials.valkey}@127.0.0.1:{valkey}/0",
        )
        program = Program(
            name=name,
            argv=BY_NAME[name].argv,
            env={**self._stores.environment, **environment(BY_NAME[name], wiring)},
            log=self._stores.folder.root / f"{name}.log",
            cwd=REPOSITORY,
        )
        self.children[name] = await Child.start(program)

    async def is_ready(self, name: str) -> bool:
        self.assert_alive()
        return await probe.http_status(self._listening[name].health, "/readyz") == 200

    async def wait_ready(self, *names: str, within: float = 60) -> None:
        for name in names:
            await eventually(partial(self.is_ready, name), within=within, every=0.1)

    def assert_alive(self) -> None:
        for name, child in self.children.items():
            assert child.alive, f"{name} gave up:\n{tail(child.program.log, 20)}"

    async def stop(self) -> None:
        for child in self.children.values():
            child.send(SIGTERM)
        for child in self.children.values():
            try:
                async with asyncio.timeout(30):
                    await child.wait()
            except TimeoutError:
                child.send(SIGKILL)
                await child.wait()


@asynccontextmanager
async def by_hand(stores: Stores) -> AsyncIterator[tuple[ByHand, dict[str, Door]]]:
    """Services and the doors between them and their stores, all of them shut."""
    databases = [await stores.create_database(one.name) for one in SERVICES if one.database]
    found = ports.pick(len(STORES))
    doors = {name: Door(port, stores.port(name)) for name, port in zip(STORES, found, strict=True)}
    behind = f":{stores.port('postgres')}/"
    dsns = {
        database.name.split("_")[1]: database.dsn.replace(behind, f":{doors['postgres'].port}/")
        for database in databases
    }
    services = ByHand(stores, dsns, doors)
    try:
        yield services, doors
    finally:
        await services.stop()
        for door in doors.values():
            await door.close()
        for database in databases:
            await stores.drop_database(database)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with Stores(tmp_path_factory.mktemp("late") / "data") as running:
        yield running


async def assert_it_works(url: str, start: float = 0) -> None:
    """Somebody can register, send an event, and hear of the session on a live socket."""
    person = await Person.register(url)
    try:
        await all_reached(person)
        async with person.live() as live:
            await person.send([event(start, 60)])
            await live.until(lambda message: message.get("event") == "session.updated")
        assert len(await person.sessions()) == 1
    finally:
        await person.close()


async def all_reached(person: Person) -> None:
    """A gateway knocks once a second at a service that was away."""

    async def healthy() -> bool:
        return (await person.client.get("/health")).status_code == 200

    await eventually(healthy, within=20)


async def test_services_that_find_nothing_wait_for_their_stores(stores: Stores) -> None:
    async with by_hand(stores) as (services, doors):
        for name in BACKWARDS:
            await services.start(name)
        for name in ("valkey", "nats", "postgres"):
            # Long enough for a service without patience to end.
            await lasting(2)
            services.assert_alive()
            await doors[name].open()
        await services.wait_ready(*BACKWARDS)
        await assert_it_works(services.url)


@pytest.mark.parametrize("order", [BACKWARDS, BACKWARDS[::-1]], ids=["backwards", "forwards"])
async def test_each_service_becomes_ready_without_those_that_follow(
    stores: Stores, order: tuple[str, ...]
) -> None:
    async with by_hand(stores) as (services, doors):
        for door in doors.values():
            await door.open()
        for name in order:
            await services.start(name)
            await services.wait_ready(name)
        await assert_it_works(services.url)


async def test_while_a_service_is_away_nobody_is_told_otherwise(stores: Stores) -> None:
    async with by_hand(stores) as (services, doors):
        for door in doors.values():
            await door.open()
        await services.start("gateway")
        await services.wait_ready("gateway")
        person = await Person.register(services.url)
        body = {"device_id": "laptop", "source": "test", "events": [event(0, 60)]}
        assert (await person.client.post("/v1/events", json=body)).status_code == 503
        for path in ("/v1/sessions?date=today", "/v1/schedules", "/v1/presence"):
            assert (await person.client.get(path)).status_code == 503, path
        health = await person.client.get("/health")
        assert health.status_code == 503
        parts = health.json()["parts"]
        away = {name for name, state in parts.items() if state != "ok"}
        assert away == {"ingest", "sessions", "scheduler", "realtime"}
        for name in BACKWARDS[1:]:
            await services.start(name)
        await services.wait_ready(*BACKWARDS)
        await all_reached(person)
        # What was refused is not there; sent again it is kept.
        assert await person.sessions() == []
        assert (await person.send([event(0, 60)]))["accepted"] == 1
        await person.close()
        await assert_it_works(services.url)


async def test_all_services_killed_at_once_come_back(suite: Suite) -> None:
    old = {name: suite.kill(name) for name in BACKWARDS}
    for name, pid in old.items():
        await asyncio.to_thread(suite.wait_replaced, name, pid, within=60)
    await assert_it_works(suite.url)


@pytest.mark.parametrize("store", ["nats", "postgres"])
async def test_a_service_that_starts_while_a_store_hangs_waits_for_it(
    suite: Suite, store: str
) -> None:
    suite.kill(store, SIGSTOP)
    try:
        old = {name: suite.kill(name, SIGKILL) for name in ("sessions", "ingest")}
        # Long enough to start, to knock, and to give up if that were in its nature.
        await lasting(6)
    finally:
        suite.kill(store, SIGCONT)
    for name, pid in old.items():
        await asyncio.to_thread(suite.wait_replaced, name, pid, within=60)
        assert suite.component(name)["restarts"] >= 1
    await assert_it_works(suite.url)
