"""Derived time over HTTP: what is asked of sessions, and how its answers are shown."""

from uuid import UUID, uuid5

import pytest

from protos.common.v1.types_pb2 import PageInfo
from protos.sessions.v1 import sessions_pb2 as pb
from tests.integration.gateway.conftest import Gateway, Person

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

T0 = 1_768_816_800_000_000
HOUR_US = 3_600_000_000
UNKNOWN = "0196f0c0-0000-7000-8000-00000000000d"


def session(*devices: str) -> pb.Session:
    return pb.Session(
        id="0196f0c0-0000-7000-8000-000000000001",
        user_id="0196f0c0-0000-7000-8000-000000000002",
        kind="active",
        start_us=T0,
        end_us=T0 + HOUR_US,
        active_us=HOUR_US - 500_000,
        category="development",
        app="Code",
        apps=["Code", "Firefox"],
        contexts=["timeloom"],
        context_switches=3,
        interruptions=1,
        devices=devices,
    )


def day() -> pb.Day:
    return pb.Day(
        date="2026-01-19",
        time_zone="Europe/Rome",
        active_us=HOUR_US,
        idle_us=0,
        session_count=1,
        by_hour_us=[0] * 11 + [HOUR_US] + [0] * 12,
        by_app=[pb.Share(name="Code", active_us=HOUR_US)],
        patterns=pb.Patterns(
            longest_focus=pb.Highlight(start_us=T0, duration_us=HOUR_US, note="development"),
            context_switch_rate=3.0,
            peak_hour=-1,
        ),
        version=7,
    )


async def test_sessions_name_devices_as_their_agents_do(gateway: Gateway, owner: Person) -> None:
    event = {"start": "2026-01-19T10:00:00Z", "duration": 5}
    body = {"device_id": "desk", "source": "test", "events": [event]}
    assert (await gateway.http.post("/v1/events", json=body, headers=owner.headers)).is_success
    key = str(uuid5(UUID(owner.id), "desk"))
    gateway.services.answers[pb.ListSessionsRequest] = lambda _: pb.ListSessionsResponse(
        sessions=[session(key, UNKNOWN)], page=PageInfo(next_cursor="c2")
    )
    reply = await gateway.http.get(
        "/v1/sessions",
        params={"date": "today", "kind": "active", "category": "dev", "device_id": "desk"},
        headers=owner.headers,
    )
    _, asked = gateway.services.last(pb.ListSessionsRequest)
    gateway.services.forget()
    assert (asked.date, asked.kind, asked.category) == ("today", "active", "dev")
    assert (asked.device_id, asked.user_id) == (key, "")
    assert not asked.HasField("range")
    assert reply.json() == {
        "items": [
            {
                "id": "0196f0c0-0000-7000-8000-000000000001",
                "user_id": "0196f0c0-0000-7000-8000-000000000002",
                "kind": "active",
                "start": "2026-01-19T10:00:00Z",
                "end": "2026-01-19T11:00:00Z",
                "active_seconds": 3599.5,
                "category": "development",
                "app": "Code",
                "domain": None,
                "project": None,
                "apps": ["Code", "Firefox"],
                "contexts": ["timeloom"],
                "context_switches": 3,
                "interruptions": 1,
                "devices": ["desk", UNKNOWN],
            }
        ],
        "next_cursor": "c2",
    }


async def test_managers_name_the_person_whose_device_they_ask_for(
    gateway: Gateway, owner: Person
) -> None:
    somebody = "0196f0c0-0000-7000-8000-0000000000aa"
    reply = await gateway.http.get(
        "/v1/sessions",
        params={
            "from": "2026-01-19T00:00:00Z",
            "to": "2026-01-20T00:00:00Z",
            "user_id": somebody,
            "device_id": "desk",
        },
        headers=owner.headers,
    )
    assert reply.json() == {"items": [], "next_cursor": None}
    _, asked = gateway.services.last(pb.ListSessionsRequest)
    assert asked.user_id == somebody
    assert asked.device_id == str(uuid5(UUID(somebody), "desk"))
    assert asked.range.until_us - asked.range.from_us == 24 * HOUR_US


async def test_a_day_comes_with_its_sessions_and_a_list_of_days_without(
    gateway: Gateway, owner: Person
) -> None:
    gateway.services.answers[pb.GetDayRequest] = lambda _: pb.GetDayResponse(
        day=day(), sessions=[session()]
    )
    gateway.services.answers[pb.ListDaysRequest] = lambda _: pb.ListDaysResponse(days=[day()])
    one = (await gateway.http.get("/v1/days/2026-01-19", headers=owner.headers)).json()
    many = await gateway.http.get("/v1/days?from=2026-01-19&to=2026-01-19", headers=owner.headers)
    _, asked = gateway.services.last(pb.ListDaysRequest)
    gateway.services.forget()
    assert (asked.from_date, asked.to_date) == ("2026-01-19", "2026-01-19")
    assert [found["kind"] for found in one["sessions"]] == ["active"]
    (listed,) = many.json()["items"]
    assert listed == {**one, "sessions": None}
    assert sum(one["by_hour"]) == one["active_seconds"] == 3600
    assert one["by_app"] == [{"name": "Code", "active_seconds": 3600}]
    assert one["patterns"] == {
        "longest_focus": {
            "start": "2026-01-19T10:00:00Z",
            "duration": 3600,
            "note": "development",
        },
        "idle_periods": [],
        "distraction_blocks": [],
        "context_switch_rate": 3.0,
        "peak_hour": None,
    }


async def test_the_timeline_may_have_long_pages(gateway: Gateway, owner: Person) -> None:
    slices = [pb.Slice(start_us=T0, end_us=T0 + 1, app="Code", device_id=UNKNOWN)]
    gateway.services.answers[pb.GetTimelineRequest] = lambda _: pb.GetTimelineResponse(
        slices=slices
    )
    reply = await gateway.http.get(
        "/v1/timeline?from=2026-01-19T00:00:00Z&to=2026-01-20T00:00:00Z&limit=9999",
        headers=owner.headers,
    )
    _, asked = gateway.services.last(pb.GetTimelineRequest)
    gateway.services.forget()
    assert asked.page.limit == 5000
    (found,) = reply.json()["items"]
    assert (found["end"], found["device_id"]) == ("2026-01-19T10:00:00.000001Z", UNKNOWN)
