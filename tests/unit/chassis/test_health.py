"""Live, ready and measured, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from chassis import health
from chassis.errors import Unavailable
from chassis.health import HealthServer, Probe, is_ready
from deploy.embedded import ports
from tests.support.eventually import eventually


class Dependency:
    """Answers, fails or hangs, as told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hangs = False

    async def check(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error


@pytest.fixture
def store() -> Dependency:
    return Dependency()


@pytest.fixture
def probe(store: Dependency) -> Probe:
    made = Probe({"postgres": store.check})
    made.is_started = True
    return made


async def test_everything_answers(probe: Probe) -> None:
    state = await probe.examine()
    assert state == {"process": "ok", "postgres": "ok"}
    assert is_ready(state)


async def test_a_process_is_not_ready_before_it_started_nor_while_it_drains(probe: Probe) -> None:
    probe.is_started = False
    assert (await probe.examine())["process"] == "starting"
    probe.is_started = True
    probe.is_draining = True
    assert (await probe.examine())["process"] == "draining"
    assert not is_ready(await probe.examine())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unavailable("The database did not answer."), "The database did not answer."),
        (ConnectionRefusedError(), "ConnectionRefusedError"),
        (TimeoutError(), "no answer in time"),
        (KeyError("pool"), "'pool'"),
    ],
)
async def test_a_dependency_that_is_away_is_named_with_its_reason(
    probe: Probe, store: Dependency, error: Exception, said: str
) -> None:
    store.error = error
    state = await probe.examine()
    assert state == {"process": "ok", "postgres": said}
    assert not is_ready(state)


async def test_a_dependency_that_hangs_does_not_hang_the_probe(
    probe: Probe, store: Dependency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)
    store.hangs = True
    async with asyncio.timeout(2):
        assert (await probe.examine())["postgres"] == "no answer in time"


@pytest.fixture
async def client(probe: Probe) -> AsyncIterator[httpx.AsyncClient]:
    (port,) = ports.pick(1)
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(HealthServer(listen=f"127.0.0.1:{port}", probe=probe).run(stopping))
        transport = httpx.AsyncHTTPTransport(retries=6)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", transport=transport
        ) as opened:
            yield opened
        stopping.set()


async def test_the_server_answers_and_says_503_with_the_reason(
    client: httpx.AsyncClient, probe: Probe, store: Dependency
) -> None:
    assert (await client.get("/livez")).json() == {"status": "ok"}
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"process": "ok", "postgres": "ok"})
    store.error = Unavailable("The database went away.")
    unready = await client.get("/readyz")
    assert unready.status_code == 503
    assert unready.json()["postgres"] == "The database went away."
    assert (await client.get("/livez")).status_code == 200
    metrics = await client.get("/metrics")
    assert metrics.status_code == 200
    assert "process_" in metrics.text or "python_" in metrics.text
    assert (await client.get("/elsewhere")).status_code == 404


class Gauge:
    """Remembers the last value of each dependency."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def set(self, value: int, attributes: dict[str, str]) -> None:
        self.values[attributes["timeloom.dependency"]] = value


async def test_readiness_is_measured_although_nobody_asks(
    probe: Probe, store: Dependency, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauge = Gauge()
    monkeypatch.setattr(health, "_ready", gauge)
    monkeypatch.setattr(health, "WATCH_SECONDS", 0.01)
    stopping = asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(probe.watch(stopping))
        await eventually(lambda: gauge.values == {"process": 1, "postgres": 1})
        store.error = Unavailable()
        await eventually(lambda: gauge.values == {"process": 1, "postgres": 0})
        stopping.set()
