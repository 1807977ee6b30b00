"""Reads what a channel said after a position, straight from the LIVE stream.

Nothing here is remembered between calls, so any replica can answer.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import nats.errors

from chassis.bus import Bus
from chassis.errors import Unavailable
from protos.realtime.v1.realtime_pb2 import LiveMessage
from services.realtime.domain.channels import Channel
from services.realtime.domain.history import Position, Window, epoch_of, is_complete
from services.realtime.publishers import LIVE

READ_SECONDS: Final = 3.0
MAX_MESSAGES: Final = 1000
# An answer over gRPC may have 16 MiB.
MAX_BYTES: Final = 4 * 1024 * 1024
_END_OF_BATCH: Final = "204"
_NOT_FOUND: Final = 404


class Page(NamedTuple):
    """What a channel said, oldest first. `position` is where the reader stands after it.

    When not `is_recovered` there are no messages and the position is the end of the stream.
    """

    position: Position
    is_recovered: bool
    messages: Sequence[LiveMessage] = ()
    has_more: bool = False


class _Batch(NamedTuple):
    messages: list[LiveMessage]
    pending: int


class LiveHistory:
    """The history window of every channel."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(
        self, org_id: UUID, channel: Channel, since: Position | None, limit: int
    ) -> Page:
        """What came after `since`, at most `limit` (1 to MAX_MESSAGES); without it, where we are.

        The order of the reads is what makes the answer safe. The end of the stream comes first:
        whatever lies beyond it reaches subscribers by itself. Then the channel's newest offset,
        from the stream's leader, since the messages may come from a member that lags behind.
        The window comes last: if nothing after `since` has left it by then, nothing had left when
        the messages were read.

        Raises:
            Unavailable: the stream can't be read now.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._read(f"live.v1.{org_id}.{channel.name}", since, limit)
        except (nats.errors.Error, TimeoutError) as error:
            raise Unavailable("The live history did not answer.") from error

    async def _read(self, subject: str, since: Position | None, limit: int) -> Page:
        end = await self._window()
        here = Position(end.epoch, end.last)
        if since is None:
            return Page(here, is_recovered=True)
        lost = Page(here, is_recovered=False)
        if since.epoch != end.epoch:
            return lost
        newest = await self._newest(subject)
        batch = _Batch([], 0)
        if newest > since.offset:
            batch = await self._batch(subject, since.offset + 1, limit)
        newer = len(batch.messages) + batch.pending
        if not is_complete(since, await self._window(), newer=newer):
            return lost
        reached = batch.messages[-1].offset if batch.messages else since.offset
        if batch.pending and batch.messages:
            return Page(
                Position(end.epoch, reached),
                is_recovered=True,
                messages=batch.messages,
                has_more=True,
            )
        if reached < newest:
            # The member that answered lags behind its leader.
            return lost
        return Page(
            Position(end.epoch, max(end.last, reached)), is_recovered=True, messages=batch.messages
        )

    async def _window(self) -> Window:
        reply = await self._bus.request(f"$JS.API.STREAM.INFO.{LIVE}")
        if "error" in reply:
            await self._bus.restore_streams()
            raise Unavailable("The live stream is being made anew.")
        state, per_channel = reply["state"], reply["config"]["max_msgs_per_subject"]
        return Window(
            epoch_of(reply["created"]),
            state["first_seq"],
            state["last_seq"],
            per_channel if per_channel > 0 else sys.maxsize,
        )

    async def _newest(self, subject: str) -> int:
        """The offset of the channel's newest message; 0 when none is kept."""
        reply = await self._bus.request(f"$JS.API.STREAM.MSG.GET.{LIVE}", {"last_by_subj": subject})
        if "error" not in reply:
            return int(reply["message"]["seq"])
        if reply["error"]["code"] == _NOT_FOUND:
            return 0
        raise Unavailable("The live history can't be read.")

    async def _batch(self, subject: str, first: int, limit: int) -> _Batch:
        client = self._bus.client
        inbox = client.new_inbox()
        body = {"seq": first, "next_by_subj": subject, "batch": limit, "max_bytes": MAX_BYTES}
        answers = await client.subscribe(inbox, pending_msgs_limit=2 * MAX_MESSAGES)
        try:
            await client.publish(f"$JS.API.DIRECT.GET.{LIVE}", msgspec.json.encode(body), inbox)
            messages: list[LiveMessage] = []
            while True:
                answer = await answers.next_msg(READ_SECONDS)
                headers = answer.headers or {}
                if (status := headers.get("Status")) is not None:
                    pending = int(headers.get("Nats-Num-Pending", "0"))
                    return _Batch(messages, pending if status == _END_OF_BATCH else 0)
                message = LiveMessage.FromString(answer.data)
                message.offset = int(headers["Nats-Sequence"])
                messages.append(message)
        finally:
            await answers.unsubscribe()
