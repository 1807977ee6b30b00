"""Asking realtime for what was said on a channel, a page at a time."""

import asyncio
from collections.abc import Awaitable
from typing import Final, NamedTuple, Protocol

from chassis.identity import Principal
from protos.realtime.v1.realtime_pb2 import GetHistoryRequest, GetHistoryResponse
from services.gateway.feed import Arrival
from services.gateway.payloads.live import Position

# Small enough that a page fits into a mailbox.
PAGE: Final = 100
# After a restart of NATS every channel asks at once.
AT_ONCE: Final = 16


class LiveHistory(Protocol):
    """The part of clients.LiveClient that is used here."""

    def get_history(
        self, by: Principal, request: GetHistoryRequest, /
    ) -> Awaitable[GetHistoryResponse]: ...


class HistoryPage(NamedTuple):
    """Messages after a position, oldest first, up to `position`.

    Not recovered means that something may be missing; then there are no messages, and `position`
    is where live begins.
    """

    is_recovered: bool
    messages: list[Arrival]
    position: Position
    has_more: bool


class History:
    """The live history window; never more than AT_ONCE questions under way."""

    def __init__(self, client: LiveHistory) -> None:
        self._client = client
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def after(self, by: Principal, channel: str, since: Position | None) -> HistoryPage:
        """What came after `since`; without it only the current position, recovered.

        Raises:
            Forbidden: the channel is not for this caller.
            Unavailable: realtime did not answer.
        """
        request = GetHistoryRequest(
            channel=channel,
            since_epoch=since.epoch if since else "",
            since_offset=since.offset if since else 0,
            limit=PAGE,
        )
        async with self._turn:
            answer = await self._client.get_history(by, request)
        messages = [
            Arrival(
                offset=message.offset,
                previous=0,
                event=message.event,
                data_json=message.data_json,
                at_us=message.at_us,
            )
            for message in answer.messages
        ]
        return HistoryPage(
            is_recovered=answer.is_recovered,
            messages=messages,
            position=Position(answer.epoch, answer.offset),
            has_more=answer.has_more,
        )
