"""Promise P8 on the live channels, and for names that reach into the bus."""

import json
from collections.abc import Iterable
from itertools import count
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.support.eventually import eventually
from tests.support.house import INJECTIONS, House, frame
from tests.support.people import Live, event

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

# Seconds after NOON that no other test here uses: each makes a session of its own.
_moments = (7200 + 900 * number for number in count())


async def work(house: House) -> None:
    """Something that everybody who may watch this house hears of."""
    await house.owner.send([event(next(_moments), 60, app=f"{house.marker} app")])


def told_by(house: House) -> Any:
    """Whether a message is about work in this house."""

    def is_it(message: dict[str, Any]) -> bool:
        said = message.get("event") in {"session.updated", "day.updated"}
        return said and bool(message["data"]["user_id"] == house.owner.id)

    return is_it


def said_of(house: House, heard: Iterable[dict[str, Any]]) -> list[str]:
    return [text for text in house.secrets if text in json.dumps(list(heard))]


@pytest.mark.parametrize("channel", ["me", "org"])
async def test_a_subscriber_hears_of_one_organization_only(
    first: House, second: House, channel: str
) -> None:
    async with second.owner.live(channel) as ours, first.owner.live(channel) as theirs:
        await work(first)
        await theirs.until(told_by(first))
        await work(second)
        await ours.until(told_by(second))
    assert not said_of(first, ours.heard)
    assert not said_of(second, theirs.heard)


@pytest.mark.parametrize("channel", ["me", "org"])
async def test_a_position_of_another_organization_replays_nothing_of_it(
    first: House, second: House, channel: str
) -> None:
    async with first.owner.live(channel) as theirs:
        position = theirs.subscribed["position"]
        await work(first)
        await theirs.until(told_by(first))
    async with second.owner.live(channel, since=position) as ours:
        await work(second)
        await ours.until(told_by(second))
    assert not said_of(first, ours.heard)
    # Its owner does get it.
    async with first.owner.live(channel, since=position) as again:
        assert again.subscribed["recovered"]
        await again.until(told_by(first))


async def test_the_event_stream_replays_nothing_of_others(first: House, second: House) -> None:
    position = (await live_position(first)) or ""
    await work(first)
    await work(second)
    headers = second.own | {"Last-Event-ID": position}
    query = {"channel": "org"}
    async with second.client.stream("GET", "/v1/live/sse", params=query, headers=headers) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            assert not [text for text in first.secrets if text in line]
            if line.startswith("data:") and told_by(second)(json.loads(line[5:])):
                break


async def live_position(house: House) -> str:
    async with house.owner.live("org") as live:
        return str(live.subscribed["position"])


async def test_presence_is_seen_by_colleagues_only(first: House, second: House) -> None:
    def is_online(message: dict[str, Any]) -> bool:
        return (
            message.get("event") == "presence.changed"
            and message["data"].get("user_id") == first.ids["member"]
        )

    async with second.owner.live("org") as ours, first.owner.live("org") as theirs:
        async with first.member.live("me"):
            await theirs.until(is_online)
        await work(second)
        await ours.until(told_by(second))
    assert not said_of(first, ours.heard)


async def test_no_channel_name_reaches_what_is_not_offered(first: House, second: House) -> None:
    names = [
        "",
        "ctl",
        "ORG",
        "org ",
        f"org:{first.ids['org']}",
        f"org.{first.ids['org']}",
        f"user.{first.ids['owner']}",
        f"user:{first.ids['owner']}",
        f"me:{first.ids['owner']}",
        f"space:{uuid4()}",
        f"space:{first.ids['org']}",
        "space:*",
        f"live.v1.{first.ids['org']}.org",
        f"rt.v1.{first.ids['org']}.>",
        *INJECTIONS,
    ]
    tries = [{"channel": name} for name in names]
    tries += [{"channel": "me", "since": text} for text in INJECTIONS]
    # A connection may say 30 things a second.
    for start in range(0, len(tries), 10):
        async with second.owner.live("me") as ours:
            for wanted in tries[start : start + 10]:
                answer = await asked(ours, frame("subscribe", **wanted))
                assert answer["type"] == "error", f"{wanted}: {answer}"
                assert answer["code"] in {"unknown_channel", "malformed", "forbidden"}, answer
                assert not said_of(first, [answer | {"channel": None}])
                # A mistake costs nothing but itself.
                assert (await asked(ours, frame("ping")))["type"] == "pong"


async def asked(live: Live, text: str) -> dict[str, Any]:
    """The first answer that is no live message."""
    await live.socket.send(text)
    return await live.until(lambda message: message["type"] not in {"message", "subscribed"})


async def test_a_member_watches_nobody_but_themselves(first: House) -> None:
    async with first.member.live("me") as live:
        for channel in ("org", "jobs"):
            answer = await asked(live, frame("subscribe", channel=channel))
            assert (answer["type"], answer["code"]) == ("error", "forbidden")
        await work(first)
        # The owner's session is the owner's.
        await first.live.until(told_by(first))
        await asked(live, frame("ping"))
        assert not [one for one in live.heard if told_by(first)(one)]


async def test_a_socket_can_not_change_hands(first: House, second: House) -> None:
    async with second.owner.live("org") as ours:
        for token in (first.owner.token, first.key, "nonsense", ""):
            answer = await asked(ours, frame("refresh", token=token))
            assert (answer["type"], answer["code"]) == ("error", "bad_token"), answer
        await work(first)
        await work(second)
        await ours.until(told_by(second))
    assert not said_of(first, ours.heard)


async def test_a_ticket_is_no_credential_and_a_credential_no_ticket(second: House) -> None:
    made = await second.owner.ok("POST", "/v1/live/tickets")
    bearer = {"Authorization": f"Bearer {made['ticket']}"}
    assert (await second.client.get("/v1/me", headers=bearer)).status_code == 401
    for ticket in (second.owner.token, second.key, "nonsense"):
        reply = await second.client.get("/v1/live/sse", params={"ticket": ticket})
        assert reply.status_code == 401, ticket


NAMED: Final = ("device_id", "source", "id")


@pytest.mark.parametrize("field", NAMED)
async def test_names_of_events_are_only_names(first: House, second: House, field: str) -> None:
    before = (await first.owner.ok("GET", "/v1/events", params={"limit": "200"}))["items"]
    kept = 0
    for text in INJECTIONS:
        one = event(next(_moments), 60, app=f"{second.marker} {field}")
        body = {"device_id": "laptop", "source": "agent", "events": [one]}
        (one if field == "id" else body)[field] = text
        reply = await second.owner.client.post("/v1/events", json=body)
        is_named = field in reply.text
        assert reply.status_code == 200 or (reply.status_code == 422 and is_named), reply.text
        if reply.status_code == 200:
            answer = reply.json()
            kept += answer["accepted"]
            assert answer["accepted"] + len(answer["rejected"]) == 1, answer
    assert kept >= 8

    async def derived() -> bool:
        found = await second.owner.sessions()
        return len([one for one in found if one["app"] == f"{second.marker} {field}"]) == kept

    await eventually(derived, within=20)
    after = (await first.owner.ok("GET", "/v1/events", params={"limit": "200"}))["items"]
    assert after == before
