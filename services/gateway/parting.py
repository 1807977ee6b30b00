"""The end of the public interface: live clients are told first, then the server stops."""

import asyncio

from chassis.lifecycle import Loop
from services.gateway.hub import Hub


class Parting:
    """Runs a server; on stop it says goodbye to live clients over `seconds` before."""

    def __init__(self, serve: Loop, *, hub: Hub, seconds: float) -> None:
        self._serve = serve
        self._hub = hub
        self._seconds = seconds

    async def run(self, stopping: asyncio.Event) -> None:
        """Serves until stopped and everybody was told."""
        told = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve(told))
            await stopping.wait()
            await self._hub.close(seconds=self._seconds)
            told.set()
