"""A dashboard as a program: what it shows, kept up to date by the live protocol alone."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from websockets.exceptions import WebSocketException

from tests.support.eventually import eventually
from tests.support.people import Person

RETRY_SECONDS = 0.1
PATIENCE_SECONDS = 600.0


class Screen:
    """The sessions one person sees, by id.

    It resumes from its position when its connection ends, and fetches everything when it is told
    that something may be missing, or that too much changed to be listed, and only then.
    `connections`, `reloads` and `hints` count these.
    """

    def __init__(self, person: Person) -> None:
        self.shown: set[str] = set()
        self.connections = 0
        self.reloads = 0
        self.hints = 0
        self.positions: list[str] = []
        self._person = person

    async def watch(self, stop: asyncio.Event) -> None:
        """Follows the person's own channel until `stop` is set."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(
                eventually(self._ended, within=PATIENCE_SECONDS, every=RETRY_SECONDS)
            )
            await stop.wait()
            watching.cancel()

    async def _ended(self) -> bool:
        """One connection after the other: never, until it is cancelled."""
        with suppress(WebSocketException, OSError, TimeoutError):
            await self._connect()
        return False

    async def _connect(self) -> None:
        since = self.positions[-1] if self.positions else None
        async with self._person.live(since=since) as live:
            self.connections += 1
            await self._take(live.subscribed)
            while True:
                await self._take(json.loads(await live.socket.recv()))

    async def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribed":
                self.positions.append(message["position"])
                if not message["recovered"]:
                    self.reloads += 1
                    await self._reload()
            case "message":
                self.positions.append(message["position"])
                await self._apply(message["event"], message["data"])

    async def _apply(self, event: str, data: dict[str, Any]) -> None:
        if event == "session.updated":
            self.shown.add(data["id"])
        elif event == "session.removed":
            self.shown.discard(data["id"])
        elif event == "day.updated" and data.get("reload"):
            self.hints += 1
            await self._reload()

    async def _reload(self) -> None:
        self.shown |= {one["id"] for one in await self._person.sessions()}
