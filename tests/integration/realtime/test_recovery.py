"""After a pause a client gets every message it missed, or is told that it can't (promise P7)."""

import asyncio
import json
from collections.abc import Sequence
from uuid import UUID

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from chassis.errors import Unavailable
from chassis.ids import new_id
from services.realtime.domain.channels import JOBS, ORG, Channel, user_channel
from services.realtime.domain.history import Position
from services.realtime.domain.live import LiveEvent, Outgoing, SessionRemoved
from services.realtime.history import LiveHistory, Page
from services.realtime.publishers import LIVE_PER_CHANNEL
from tests.integration.realtime.conftest import ACME, ANA, BEN, RIVAL, Replica
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

MINE = user_channel(ANA)


def outgoing(number: int, channel: Channel = MINE, org: UUID = ACME) -> Outgoing:
    data = SessionRemoved(id=str(number), user_id=str(ANA), version=number)
    event = LiveEvent(org, channel, "session.removed", data)
    return Outgoing(event, str(new_id()), "")


async def say(
    replica: Replica, numbers: Sequence[int], channel: Channel = MINE, org: UUID = ACME
) -> None:
    await replica.live.publish([outgoing(number, channel, org) for number in numbers])


async def now(replica: Replica) -> Position:
    return (await replica.history.read(ACME, MINE, None, 1)).position


def numbers(page: Page) -> list[int]:
    return [int(json.loads(message.data_json)["id"]) for message in page.messages]


async def test_without_a_position_only_the_current_one_is_told(replica: Replica) -> None:
    await say(replica, [1, 2])
    page = await replica.history.read(ACME, MINE, None, 100)
    assert page.is_recovered
    assert page.messages == ()
    assert page.position.offset >= 2


async def test_what_was_missed_comes_in_order_with_offsets(replica: Replica) -> None:
    await say(replica, [1])
    since = await now(replica)
    await say(replica, [2, 3])
    await say(replica, [7], ORG)
    await say(replica, [4])
    page = await replica.history.read(ACME, MINE, since, 100)
    assert page.is_recovered
    assert not page.has_more
    assert numbers(page) == [2, 3, 4]
    offsets = [message.offset for message in page.messages]
    assert offsets == sorted(offsets)
    assert min(offsets) > since.offset
    assert page.position.offset >= offsets[-1]
    assert all(
        message.at_us > 0 and message.event == "session.removed" for message in page.messages
    )
    again = await replica.history.read(ACME, MINE, page.position, 100)
    assert (again.is_recovered, list(again.messages)) == (True, [])


async def test_a_long_absence_is_read_in_pages(replica: Replica) -> None:
    position = await now(replica)
    await say(replica, range(25))
    seen: list[int] = []
    while True:
        page = await replica.history.read(ACME, MINE, position, 10)
        assert page.is_recovered
        seen += numbers(page)
        position = page.position
        if not page.has_more:
            break
        assert position.offset == page.messages[-1].offset
    assert seen == list(range(25))


async def test_other_channels_people_and_organizations_are_never_read(replica: Replica) -> None:
    since = await now(replica)
    await say(replica, [1], ORG)
    await say(replica, [2], JOBS)
    await say(replica, [3], user_channel(BEN))
    await say(replica, [4], MINE, RIVAL)
    await say(replica, [5])
    assert numbers(await replica.history.read(ACME, MINE, since, 100)) == [5]
    assert numbers(await replica.history.read(RIVAL, MINE, since, 100)) == [4]
    assert numbers(await replica.history.read(RIVAL, ORG, since, 100)) == []


async def test_more_than_a_channel_keeps_is_not_recovered(replica: Replica) -> None:
    since = await now(replica)
    await say(replica, range(LIVE_PER_CHANNEL - 1))
    just = await replica.history.read(ACME, MINE, since, 1000)
    assert just.is_recovered
    assert numbers(just) == list(range(LIVE_PER_CHANNEL - 1))
    await say(replica, range(2))
    page = await replica.history.read(ACME, MINE, since, 1000)
    assert not page.is_recovered
    assert page.messages == ()
    # The busy channel took nothing from the others.
    await say(replica, [1], ORG)
    assert (await replica.history.read(ACME, ORG, since, 1000)).is_recovered


async def test_what_has_aged_out_is_not_recovered(replica: Replica, admin: Client) -> None:
    early = await now(replica)
    await say(replica, [1, 2])
    late = await now(replica)
    jetstream = admin.jetstream()
    config = (await jetstream.stream_info("LIVE")).config
    config.max_age = config.duplicate_window = 0.1
    await jetstream.update_stream(config)

    async def is_empty() -> bool:
        return (await jetstream.stream_info("LIVE")).state.messages == 0

    await eventually(is_empty)
    page = await replica.history.read(ACME, MINE, early, 100)
    assert (page.is_recovered, page.position, list(page.messages)) == (False, late, [])
    assert (await replica.history.read(ACME, MINE, late, 100)).is_recovered


async def test_when_the_oldest_go_only_those_who_stood_before_them_lose(
    replica: Replica, admin: Client
) -> None:
    early = await now(replica)
    await say(replica, [1, 2])
    middle = await now(replica)
    await say(replica, [3])
    # As age and the bound on bytes do: everything up to a sequence.
    await admin.jetstream().purge_stream("LIVE", seq=middle.offset + 1)
    assert not (await replica.history.read(ACME, MINE, early, 100)).is_recovered
    page = await replica.history.read(ACME, MINE, middle, 100)
    assert page.is_recovered
    assert numbers(page) == [3]


async def test_a_stream_made_anew_is_another_epoch(replica: Replica, admin: Client) -> None:
    await say(replica, [1])
    since = await now(replica)
    await admin.jetstream().delete_stream("LIVE")
    with pytest.raises(Unavailable):
        await replica.history.read(ACME, MINE, since, 100)
    # Enough to pass the old offset: the number alone would look right.
    await say(replica, range(since.offset + 3))
    page = await replica.history.read(ACME, MINE, since, 100)
    assert not page.is_recovered
    assert page.position.epoch != since.epoch


async def test_a_position_nobody_was_ever_given_is_not_recovered(replica: Replica) -> None:
    here = await now(replica)
    for wrong in (Position(here.epoch, here.offset + 1), Position("", 0), Position("x:y", 2**63)):
        assert not (await replica.history.read(ACME, MINE, wrong, 100)).is_recovered


class Subscriber:
    """One who joins as the README tells hubs to."""

    def __init__(self, client: Client, history: LiveHistory) -> None:
        self._client = client
        self._history = history
        self.seen: list[int] = []
        self.from_history = 0
        self._buffer: list[Msg] | None = []
        self._offset = 0

    async def join(self, since: Position) -> None:
        await self._client.subscribe(f"rt.v1.{ACME}.{MINE.name}", cb=self._hear)
        await self._client.flush()
        page = await self._history.read(ACME, MINE, since, 50)
        self._take(page)
        while page.has_more:
            page = await self._history.read(ACME, MINE, page.position, 50)
            self._take(page)
        buffered, self._buffer = self._buffer or [], None
        for message in buffered:
            self._live(message)

    def _take(self, page: Page) -> None:
        assert page.is_recovered
        self.seen += numbers(page)
        self.from_history = len(self.seen)
        self._offset = page.position.offset

    async def _hear(self, message: Msg) -> None:
        if self._buffer is None:
            self._live(message)
        else:
            self._buffer.append(message)

    def _live(self, message: Msg) -> None:
        if int((message.headers or {})["Nats-Sequence"]) > self._offset:
            data = message.data
            self.seen.append(int(data[data.index(b'"version":') + 10 :].split(b"}")[0]))


async def test_whoever_joins_while_messages_flow_sees_each_once_in_order(
    replica: Replica, admin: Client
) -> None:
    since = await now(replica)
    everyone_joined = asyncio.Event()
    said: list[int] = []

    async def talk() -> None:
        while not everyone_joined.is_set() and len(said) < LIVE_PER_CHANNEL - 10:
            await say(replica, [len(said)])
            said.append(len(said))

    subscribers = [Subscriber(admin, replica.history) for _ in range(10)]
    async with asyncio.TaskGroup() as group:
        group.create_task(talk())
        for one in subscribers:
            await one.join(since)
        everyone_joined.set()
    await eventually(lambda: all(len(one.seen) >= len(said) for one in subscribers))
    assert all(one.seen == said for one in subscribers)
    # Otherwise nobody joined in the middle and nothing was shown.
    assert sum(0 < one.from_history < len(said) for one in subscribers) >= 5
