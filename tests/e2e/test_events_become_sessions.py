"""The vectors of sessionization.md that the first page promises, through the front door."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from tests.support.eventually import eventually
from tests.support.people import NOON, Person, event

pytestmark = pytest.mark.e2e
DAY = NOON.date().isoformat()


async def settle(person: Person, seconds: float) -> None:
    """Waits until the person's active time is `seconds`."""

    async def settled() -> bool:
        return abs(await person.active_seconds() - seconds) < 0.001

    await eventually(settled, within=20)


async def test_125_samples_posted_twice_are_one_session(ana: Person) -> None:
    events = [event(5 * n) for n in range(125)]
    assert await ana.send(events) == {"accepted": 125, "duplicates": 0, "rejected": []}
    assert await ana.send(events) == {"accepted": 0, "duplicates": 125, "rejected": []}
    await settle(ana, 625)
    [session] = await ana.sessions()
    assert session["kind"] == "active"
    day = await ana.ok("GET", f"/v1/days/{DAY}")
    assert day["active_seconds"] == 625
    assert sum(day["by_hour"]) == 625
    assert sum(share["active_seconds"] for share in day["by_app"]) == 625


async def test_the_260_events_that_once_made_246_sessions_make_one(ana: Person) -> None:
    idle, events = False, []
    for n in range(260):
        if n and not (n % 18 == 0 and n // 18 <= 14):
            idle = not idle
        events.append(event(620 * n / 259, idle=idle, url="https://news.example.org/a"))
    await ana.send(events)

    async def one() -> bool:
        return len(await ana.sessions()) == 1

    await eventually(one, within=20)
    [session] = await ana.sessions()
    assert session["active_seconds"] <= 625


async def test_a_late_event_bridges_and_subscribers_hear_of_it(ana: Person) -> None:
    async with ana.live() as live:
        await ana.send([event(0, 60), event(600, 60)])
        await settle(ana, 120)
        first, second = await ana.sessions()
        await ana.send([event(300, 60)])
        removed = await live.until(lambda m: m.get("event") == "session.removed")
        assert removed["data"]["id"] == second["id"]
        heard = [m for m in live.heard if m.get("event") == "session.updated"]
        assert any(
            m["data"]["id"] == first["id"]
            and m["data"]["end"].startswith((NOON + timedelta(seconds=660)).isoformat()[:19])
            for m in heard
        ) or await live.until(lambda m: m.get("event") == "session.updated")
    [bridged] = await ana.sessions()
    assert bridged["id"] == first["id"]


async def test_two_devices_never_count_a_second_twice(ana: Person) -> None:
    await ana.send([event(0, 3600, app="Code")], device="laptop")
    await ana.send([event(1800, 900, app="Slack")], device="phone")
    await settle(ana, 3600)
    day = await ana.ok("GET", f"/v1/days/{DAY}")
    shares = {share["name"]: share["active_seconds"] for share in day["by_app"]}
    assert shares == {"Code": 2700, "Slack": 900}


async def test_a_night_over_midnight_is_one_session_and_two_days(ana: Person) -> None:
    await ana.send([event(23 * 3600, 7200)])
    await settle(ana, 7200)
    assert len(await ana.sessions()) == 1
    last = (NOON + timedelta(days=1)).date().isoformat()
    days = (await ana.ok("GET", "/v1/days", params={"from": DAY, "to": last}))["items"]
    assert [day["active_seconds"] for day in days] == [3600, 3600]


async def test_days_are_local_and_follow_a_change_of_zone(
    register: Callable[..., Awaitable[Person]],
) -> None:
    ana = await register(zone="America/New_York")
    # 02:00 UTC is the evening before in New York.
    await ana.send([event(2 * 3600, 1800)])
    await settle(ana, 1800)
    before = (NOON - timedelta(days=1)).date().isoformat()

    async def on_the_day_before() -> bool:
        return bool((await ana.ok("GET", f"/v1/days/{before}"))["active_seconds"] == 1800)

    await eventually(on_the_day_before, within=20)
    # Moving now changes tomorrow, not yesterday.
    await ana.ok("PATCH", "/v1/me", json={"time_zone": "Asia/Tokyo"})
    await ana.send([event(2 * 3600 + 1800, 60)])
    await settle(ana, 1860)
    assert (await ana.ok("GET", f"/v1/days/{before}"))["active_seconds"] == 1860


async def test_a_bad_event_is_rejected_alone_with_its_field(ana: Person) -> None:
    answer = await ana.send([event(0), event(5, duration=-1), event(10)])
    assert answer["accepted"] == 2
    [rejected] = answer["rejected"]
    assert rejected["index"] == 1
    assert "duration" in rejected["errors"][0]["field"]


async def test_a_deleted_event_leaves_no_trace(ana: Person) -> None:
    await ana.send([event(0, 60)])
    await settle(ana, 60)
    window = {"from": NOON.isoformat(), "to": (NOON + timedelta(hours=1)).isoformat()}
    [kept] = (await ana.ok("GET", "/v1/events", params=window))["items"]
    await ana.ok("DELETE", f"/v1/events/{kept['id']}")
    await settle(ana, 0)
    # The agent's queue sends it once more.
    assert (await ana.send([event(0, 60)]))["duplicates"] == 1
    assert await ana.sessions() == []
