"""One suite for all end-to-end tests, started as `make up` does, with every trace exported."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio

from tests.support.house import House
from tests.support.otlp import OtlpReceiver
from tests.support.people import Person
from tests.support.servers import Suite

SERVICES = ("INGEST", "SESSIONS", "SCHEDULER", "REALTIME", "GATEWAY")


@pytest.fixture(scope="session")
def traces() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory, traces: OtlpReceiver) -> Iterator[Suite]:
    environment = {f"{name}_TRACE_SAMPLE_RATIO": "1" for name in SERVICES}
    environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
        "GATEWAY_SIGN_INS_PER_MINUTE_PER_ADDRESS": "10000",
        "GATEWAY_BAD_CREDENTIALS_PER_MINUTE": "10000",
        # Hundreds of people register here.
        "GATEWAY_PASSWORD_PASSES": "1",
        "GATEWAY_PASSWORD_MEMORY_KIB": "1024",
        # Leaving counts sooner, so that tests need not wait for it.
        "REALTIME_LEAVE_SECONDS": "2",
        "REALTIME_REAP_SECONDS": "0.25",
    }
    with Suite(tmp_path_factory.mktemp("e2e") / "data", environment=environment) as running:
        yield running


@pytest.fixture
async def register(suite: Suite) -> AsyncIterator[Callable[..., Awaitable[Person]]]:
    """``await register(zone="Europe/Rome")``: the owner of a new organization."""
    people: list[Person] = []

    async def make(*, zone: str = "UTC") -> Person:
        people.append(await Person.register(suite.url, zone=zone))
        return people[-1]

    yield make
    for person in people:
        await person.close()


@pytest.fixture
async def ana(register: Callable[..., Awaitable[Person]]) -> Person:
    return await register()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def first(suite: Suite) -> AsyncIterator[House]:
    """The house that nobody else may look into."""
    house = await House.furnish(suite)
    yield house
    await house.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def second(suite: Suite) -> AsyncIterator[House]:
    """The house of those who try."""
    house = await House.furnish(suite)
    yield house
    await house.close()
