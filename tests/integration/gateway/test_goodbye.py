"""A gateway that stops tells its live clients to come back, and ends in time."""

from contextlib import AsyncExitStack

import httpx
import pytest

from tests.integration.gateway.neighbours import neighbourhood, socket
from tests.integration.gateway.test_live import event_source
from tests.support.servers import Stores

pytestmark = pytest.mark.integration


async def test_a_stopping_gateway_says_goodbye(servers: Stores, tracing: None) -> None:
    async with AsyncExitStack() as stack:
        async with neighbourhood(servers) as town:
            ada = await town.gateway.register()
            sockets = [await stack.enter_async_context(socket(town, ada)) for _ in range(3)]
            reader = await stack.enter_async_context(httpx.AsyncClient(base_url=town.url))
            events = await stack.enter_async_context(event_source(reader, ada))
            assert (await events.next())[1]["type"] == "subscribed"
        frame = (await events.next())[1]
        while frame["type"] == "message":
            frame = (await events.next())[1]
        assert frame == {"type": "bye", "code": 3001, "reconnect": True}
        for one in sockets:
            assert await one.hear("bye") == {"type": "bye", "code": 3001, "reconnect": True}
            assert await one.closed() == 3001
