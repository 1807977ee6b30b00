"""A TCP port that leads to another one while it is open; until then connections are refused."""

import asyncio
from contextlib import suppress


class Door:
    """In front of a server on loopback, so that it can seem to be late."""

    def __init__(self, port: int, behind: int) -> None:
        self.port = port
        self._behind = behind
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._enter, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Ends every connection through it too."""
        if self._server is not None:
            self._server.close()
        for pipe in list(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        try:
            with suppress(OSError):
                inside, outside = await asyncio.open_connection("127.0.0.1", self._behind)
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pour(reader, outside))
                    group.create_task(_pour(inside, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pipes.discard(task)
            writer.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
