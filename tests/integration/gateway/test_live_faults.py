"""Promise P7 when NATS dies under a live connection."""

import asyncio
from signal import SIGKILL

import pytest

from tests.integration.gateway.neighbours import neighbourhood, socket
from tests.support.servers import Stores

pytestmark = [pytest.mark.integration, pytest.mark.fault]


async def test_after_nats_died_clients_stay_and_are_told_and_hear_again(
    servers: Stores, tracing: None
) -> None:
    async with neighbourhood(servers) as town:
        ada = await town.gateway.register()
        async with socket(town, ada) as one:
            await one.subscribe()
            await town.tell(ada, "before")
            before = await one.hear(event="note")
            await asyncio.to_thread(servers.restart, "nats", SIGKILL)
            # The stream of live messages was in memory: what it held is gone.
            assert (await one.hear("subscribed"))["recovered"] is False
            await town.tell(ada, "after")
            after = await one.hear(event="note")
            assert (before["data"], after["data"]) == ("before", "after")
            assert before["position"].partition(":")[0] != after["position"].partition(":")[0]
