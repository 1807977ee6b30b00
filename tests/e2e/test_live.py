"""Promise P7 and the rest of the live protocol, over real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chassis.clock import SystemClock
from chassis.identity import load_private_key
from tests.support.event_stream import EventStream
from tests.support.eventually import eventually
from tests.support.house import frame
from tests.support.people import Live, Person, event
from tests.support.servers import Suite
from tests.support.shout import shout

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

Message = dict[str, Any]
SLOW_CONSUMER: Final = 3008
EXPIRED: Final = 3005
MANY: Final = 1001  # one more than realtime keeps of a channel


@pytest_asyncio.fixture(loop_scope="module")
async def eve(suite: Suite) -> AsyncIterator[Person]:
    person = await Person.register(suite.url)
    yield person
    await person.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ada(suite: Suite) -> AsyncIterator[Person]:
    """For tests that need nobody new."""
    person = await Person.register(suite.url)
    yield person
    await person.close()


def offset(message: Message) -> int:
    return int(message["position"].rpartition(":")[2])


def is_session(message: Message) -> bool:
    return message.get("event") == "session.updated"


def is_pong(message: Message) -> bool:
    return bool(message["type"] == "pong")


def own_subject(person: Person) -> str:
    return f"live.v1.{person.org_id}.user.{person.id}"


async def work(person: Person, number: int) -> None:
    """The n-th session of a person, from 0; returns when it was derived."""
    await person.send([event(900 * number, 60)])

    async def derived() -> bool:
        return len(await person.sessions()) > number

    await eventually(derived, within=20)


async def test_a_client_that_comes_back_gets_what_it_missed_in_order(eve: Person) -> None:
    async with eve.live() as witness:
        async with eve.live() as live:
            await eve.send([event(0, 60)])
            last = await live.until(is_session)
        await witness.until(is_session)
        for n in range(1, 6):
            await eve.send([event(900 * n, 60)])
            await witness.until(is_session)
        async with eve.live(since=last["position"]) as again:
            assert again.subscribed["recovered"] is True
            assert again.subscribed["position"] == last["position"]
            await eve.send([event(900 * 6, 60)])
            end = await witness.until(is_session)
            await again.until(lambda message: message.get("position") == end["position"])
    missed = [
        one for one in witness.heard if one["type"] == "message" and offset(one) > offset(last)
    ]
    heard = [one for one in again.heard if one["type"] == "message"]
    assert len([one for one in missed if is_session(one)]) == 6
    assert heard == missed[: len(heard)]
    assert heard[-1] == end


async def test_a_client_that_missed_nothing_is_told_so(eve: Person) -> None:
    async with eve.live() as live:
        position = live.subscribed["position"]
    async with eve.live(since=position) as again:
        assert again.subscribed["recovered"] is True


@pytest.mark.parametrize("since", ["unknown:5", "0:0", "{epoch}:999999999999"])
async def test_a_position_nobody_knows_is_not_recovered(eve: Person, since: str) -> None:
    async with eve.live() as live:
        epoch = live.subscribed["position"].rpartition(":")[0]
    async with eve.live(since=since.format(epoch=epoch)) as again:
        assert again.subscribed["recovered"] is False
        # It goes on from here.
        await eve.send([event(0, 60)])
        await again.until(is_session)


async def test_history_that_was_trimmed_is_not_recovered(suite: Suite, eve: Person) -> None:
    async with eve.live() as live:
        await shout(suite, own_subject(eve), 1)
        first = await live.until(lambda message: message.get("event") == "test.shouted")
    await shout(suite, own_subject(eve), MANY)
    async with eve.live(since=first["position"]) as again:
        assert again.subscribed["recovered"] is False
        assert offset(again.subscribed) >= offset(first) + MANY


async def test_a_long_absence_is_replayed_whole(suite: Suite, eve: Person) -> None:
    async with eve.live() as live:
        await shout(suite, own_subject(eve), 1)
        first = await live.until(lambda message: message.get("event") == "test.shouted")
    await shout(suite, own_subject(eve), 900)
    async with eve.live(since=first["position"]) as again:
        assert again.subscribed["recovered"] is True
        await again.until(lambda message: message.get("data", {}).get("n") == 899)
    numbers = [one["data"]["n"] for one in again.heard if one.get("event") == "test.shouted"]
    assert numbers == list(range(900))


async def test_an_event_stream_resumes_by_its_last_event_id(eve: Person) -> None:
    async with EventStream.open(eve.client) as stream:
        await eve.send([event(0, 60)])
        await stream.until(is_session)
        last = stream.last_id
    await work(eve, 1)
    await work(eve, 2)
    async with EventStream.open(eve.client, last_id=last) as again:
        await again.until(is_session)
        end = await again.until(is_session)
    [subscribed, *messages] = again.heard
    assert (subscribed["type"], subscribed["recovered"]) == ("subscribed", True)
    assert again.last_id == end["position"]
    assert [one["position"] for one in messages] == sorted(
        (one["position"] for one in messages), key=lambda text: int(text.rpartition(":")[2])
    )
    for unknown in ("unknown:5", "what a proxy made of it"):
        async with EventStream.open(eve.client, last_id=unknown) as lost:
            told = await lost.until(lambda message: message["type"] == "subscribed")
            assert told["recovered"] is False


async def test_a_ticket_opens_one_connection(suite: Suite, eve: Person) -> None:
    async def ticket() -> str:
        return str((await eve.ok("POST", "/v1/live/tickets"))["ticket"])

    once = await ticket()
    address = suite.url.replace("http", "ws", 1) + f"/v1/live?ticket={once}"
    async with connect(address) as opened:
        live = Live(opened)
        await opened.send(frame("subscribe", channel="me"))
        await live.until(lambda message: message["type"] == "subscribed")
    # Scripts in browsers see no status, so the refusal is a goodbye.
    async with connect(address) as second:
        told = await Live(second).until(lambda _: True)
        assert told == {"type": "bye", "code": 4401, "reconnect": False}
    assert (await eve.client.get(f"/v1/live/sse?ticket={once}")).status_code == 401
    another = await ticket()
    async with EventStream.open(eve.client, ticket=another) as stream:
        await stream.until(lambda message: message["type"] == "subscribed")
    assert (await eve.client.get(f"/v1/live/sse?ticket={another}")).status_code == 401


def ending_token(suite: Suite, person: Person, *, seconds: float) -> str:
    """The person's access token, but for when it ends."""
    claims = jwt.decode(person.token, options={"verify_signature": False})
    ends = SystemClock().now_us() // 1_000_000 + seconds
    key = load_private_key(suite.credentials.token_private_key)
    return jwt.encode(claims | {"exp": ends}, key, algorithm="EdDSA")


async def test_a_token_is_refreshed_on_an_open_socket(suite: Suite, eve: Person) -> None:
    brief = Person(
        eve.url, eve.tokens | {"access_token": ending_token(suite, eve, seconds=2)}, eve.email
    )
    async with brief.live() as kept, brief.live() as left:
        for live in (kept, left):
            # It may come before the answer to `subscribe`.
            said = [one.get("code") for one in live.heard]
            if "token_expiring" not in said:
                await live.until(lambda message: message.get("code") == "token_expiring")
        fresh = await eve.ok(
            "POST", "/v1/auth/refresh", json={"refresh_token": eve.tokens["refresh_token"]}
        )
        await kept.socket.send(frame("refresh", token=fresh["access_token"]))
        told = await kept.until(lambda message: message["type"] == "refreshed")
        assert told["expires_at"]
        # Ten seconds of grace for a refresh that is on its way.
        bye = await left.until(lambda message: message["type"] == "bye")
        assert (bye["code"], bye["reconnect"]) == (EXPIRED, True)
        await kept.socket.send(frame("ping"))
        await kept.until(is_pong)
    await brief.close()


async def test_presence_comes_at_once_and_goes_after_a_moment(eve: Person) -> None:
    member = await eve.invite("member")

    def says(state: str) -> Any:
        def is_it(message: Message) -> bool:
            said = message.get("data", {})
            return message.get("event") == "presence.changed" and (
                (said.get("user_id"), said.get("state")) == (member.id, state)
            )

        return is_it

    async def states() -> dict[str, str]:
        found = await eve.ok("GET", "/v1/presence")
        return {one["user_id"]: one["state"] for one in found["items"]}

    async with eve.live("org") as live:
        async with member.live() as own:
            await live.until(says("online"))
            assert await states() == {eve.id: "online", member.id: "online"}
            await own.socket.send(frame("presence", state="idle"))
            await live.until(says("idle"))
        # A page that is loaded again leaves and comes back; nobody hears of it.
        heard = len(live.heard)
        async with member.live():
            await live.until(says("online"))
            assert not any(says("offline")(one) for one in live.heard[heard:])
        await live.until(says("offline"), seconds=15)
        assert await states() == {eve.id: "online"}
    await member.close()


async def test_a_client_that_does_not_read_is_sent_away_and_resumes(
    suite: Suite, eve: Person
) -> None:
    with socket.socket() as narrow:
        # What the kernel holds for it is not what it has read.
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", urlsplit(suite.url).port))
        headers = {"Authorization": f"Bearer {eve.token}"}
        address = suite.url.replace("http", "ws", 1) + "/v1/live"
        async with (
            eve.live() as witness,
            connect(
                address, additional_headers=headers, sock=narrow, max_queue=1, compression=None
            ) as slow,
        ):
            live = Live(slow)
            await slow.send(frame("subscribe", channel="me"))
            await live.until(lambda message: message["type"] == "subscribed")
            reading = asyncio.create_task(
                witness.until(lambda message: message.get("data", {}).get("n") == 299)
            )
            await shout(suite, own_subject(eve), 300, characters=32_000)
            # Others are not held up by it.
            await reading
            bye = await live.until(lambda message: message["type"] == "bye")
            assert bye == {"type": "bye", "code": SLOW_CONSUMER, "reconnect": True}
            with pytest.raises(ConnectionClosed) as closed:
                await slow.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == SLOW_CONSUMER
    got = [one for one in live.heard if one.get("event") == "test.shouted"]
    async with eve.live(since=(got or [live.heard[0]])[-1]["position"]) as again:
        assert again.subscribed["recovered"] is True
        await again.until(lambda message: message.get("data", {}).get("n") == 299)
    got += [one for one in again.heard if one.get("event") == "test.shouted"]
    assert [one["data"]["n"] for one in got] == list(range(300))


BAD_FRAMES: Final = (
    "",
    "{",
    "[]",
    "null",
    "5",
    '{"type": "dance"}',
    '{"type": "subscribe"}',
    '{"type": "subscribe", "channel": 5}',
    '{"type": "subscribe", "channel": "me", "colour": "red"}',
    '{"type": "subscribe", "channel": "me", "since": 5}',
    '{"type": "presence", "state": "dead"}',
    '{"type": "refresh"}',
    '{"type": "ping", "a": ' + "[" * 10_000,
    b"\xff\xfe",
)


@pytest.mark.parametrize("bad", BAD_FRAMES, ids=lambda bad: repr(bad[:50]))
async def test_a_frame_that_is_no_message_costs_nothing_but_itself(
    ada: Person, bad: str | bytes
) -> None:
    async with ada.live() as live:
        await live.socket.send(bad)
        told = await live.until(lambda message: message["type"] == "error")
        assert told["code"] == "malformed"
        assert told["message"]
        await live.socket.send(frame("ping"))
        await live.until(is_pong)


async def test_who_says_nothing_sensible_is_sent_away(ada: Person) -> None:
    async with ada.live() as live:
        for _ in range(10):
            await live.socket.send("nonsense")
        bye = await live.until(lambda message: message["type"] == "bye")
        assert bye["reconnect"] is False
    async with ada.live() as live:
        for _ in range(36):
            await live.socket.send(frame("ping"))
        answers = [await live.until(lambda _: True) for _ in range(36)]
        assert {one.get("code") for one in answers} == {None, "too_many_messages"}
    async with ada.live() as live:
        await live.socket.send("x" * 100_000)
        with pytest.raises(ConnectionClosed):
            await live.until(lambda _: False)


@pytest.mark.parametrize(
    "headers",
    [{"Cookie": "x" * 9_000}, {f"X-Header-{n}": "x" for n in range(200)}],
    ids=["a long header", "many headers"],
)
async def test_a_handshake_that_can_not_be_read_is_answered(
    suite: Suite, headers: dict[str, str]
) -> None:
    address = suite.url.replace("http", "ws", 1) + "/v1/live"
    with pytest.raises(InvalidStatus) as refused:
        await connect(address, additional_headers=headers)
    assert refused.value.response.status_code == 400
    body = json.loads(refused.value.response.body or b"{}")
    assert body["type"] == "urn:timeloom:problem:malformed"


async def test_a_person_has_twenty_connections(suite: Suite, eve: Person) -> None:
    address = suite.url.replace("http", "ws", 1) + "/v1/live"
    headers = {"Authorization": f"Bearer {eve.token}"}
    opened: list[ClientConnection] = []
    try:
        while len(opened) < 20:
            opened.append(await connect(address, additional_headers=headers))
        with pytest.raises(InvalidStatus) as refused:
            await connect(address, additional_headers=headers)
        assert refused.value.response.status_code == 429
        body = json.loads(refused.value.response.body or b"{}")
        assert body["type"] == "urn:timeloom:problem:exhausted"
    finally:
        for one in opened:
            await one.close()
    async with eve.live():
        pass
