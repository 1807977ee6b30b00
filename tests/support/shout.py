"""Putting messages on a live channel without the work that usually causes them."""

import asyncio

import msgspec
import nats

from chassis.clock import SystemClock
from protos.realtime.v1.realtime_pb2 import LiveMessage
from tests.support.servers import Suite


async def shout(suite: Suite, subject: str, count: int, *, characters: int = 10) -> None:
    """Publishes `count` messages on `subject`, as realtime does; they are stored on return.

    The n-th, from 0, has the event ``test.shouted`` and the data ``{"n": n, "filling": "xxx…"}``.
    """
    client = await nats.connect(**suite.nats())
    try:
        jetstream = client.jetstream(publish_async_max_pending=200)
        at_us = SystemClock().now_us()
        acks = []
        for n in range(count):
            data = msgspec.json.encode({"n": n, "filling": "x" * characters})
            message = LiveMessage(event="test.shouted", data_json=data, at_us=at_us)
            acks.append(
                await jetstream.publish_async(subject, message.SerializeToString(), wait_stall=20)
            )
        async with asyncio.timeout(20):
            for ack in acks:
                await ack
    finally:
        await client.close()
