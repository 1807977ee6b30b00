"""POST and GET /v1/events, up to the call to ingest."""

from typing import Any
from uuid import UUID, uuid5

import pytest

from chassis.errors import Invalid, NotFound, Unavailable
from protos.common.v1.types_pb2 import PageInfo, Violation
from protos.ingest.v1 import ingest_pb2 as ingest
from tests.integration.gateway.conftest import Gateway, Person

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

T0 = 1_768_816_800_000_000
GOOD = {"start": "2026-01-19T10:00:00Z", "duration": 5}


def body(*events: Any) -> dict[str, Any]:
    return {"device_id": "laptop", "source": "test", "events": list(events)}


async def test_events_reach_ingest_in_columns(gateway: Gateway, owner: Person) -> None:
    reply = await gateway.http.post(
        "/v1/events",
        json=body(
            {
                "start": "2026-01-19T11:00:00.000001+01:00",
                "duration": 1.5,
                "idle": False,
                "app": "Code",
                "data": {"a": [1, "ü"]},
                "id": "x1",
            },
            {"start": "2026-01-19T10:00:02Z", "duration": 0, "kind": "point", "title": "t"},
            {"start": "2026-01-19T10:00:03Z", "duration": 60, "idle": True, "app": None},
        ),
        headers=owner.headers,
    )
    assert reply.status_code == 200
    assert reply.json() == {"accepted": 3, "duplicates": 0, "rejected": []}
    by, request = gateway.services.last(ingest.AppendEventsRequest)
    assert (str(by.org_id), str(by.user_id), by.role) == (owner.org_id, owner.id, "owner")
    assert request.device_id == str(uuid5(UUID(owner.id), "laptop"))
    assert request.source == "test"
    assert list(request.client_ids) == ["x1", "", ""]
    columns = request.events
    assert list(columns.start_us) == [T0 + 1, T0 + 2_000_000, T0 + 3_000_000]
    assert list(columns.duration_us) == [1_500_000, 0, 60_000_000]
    assert list(columns.flags) == [1, 4, 2]
    assert list(columns.app) == ["Code", "", ""]
    assert list(columns.title) == ["", "t", ""]
    assert list(columns.data_json) == ['{"a": [1, "ü"]}'.replace("ü", "\\u00fc"), "", ""] or list(
        columns.data_json
    ) == ['{"a":[1,"ü"]}', "", ""]
    assert list(columns.url) == []


async def test_a_bad_event_among_good_ones_is_rejected_alone(
    gateway: Gateway, owner: Person
) -> None:

    def half(request: ingest.AppendEventsRequest) -> ingest.AppendEventsResponse:
        wrong = ingest.RejectedEvent(index=1, errors=[Violation(field="start", message="too old")])
        return ingest.AppendEventsResponse(accepted=1, rejected=[wrong])

    gateway.services.answers[ingest.AppendEventsRequest] = half
    reply = await gateway.http.post(
        "/v1/events",
        json=body({"start": "now", "duration": 1}, GOOD, GOOD | {"colour": 1}, GOOD),
        headers=owner.headers,
    )
    gateway.services.forget()
    assert reply.status_code == 200
    answer = reply.json()
    assert answer["accepted"] == 1
    assert [one["index"] for one in answer["rejected"]] == [0, 2, 3]
    fields = [[error["field"] for error in one["errors"]] for one in answer["rejected"]]
    assert fields == [["start"], ["colour"], ["start"]]
    assert answer["rejected"][2]["errors"][0]["message"] == "too old"


async def test_ingest_is_not_asked_when_nothing_is_good(gateway: Gateway, owner: Person) -> None:
    gateway.services.forget()
    reply = await gateway.http.post(
        "/v1/events", json=body(GOOD | {"duration": -1}), headers=owner.headers
    )
    assert reply.json()["accepted"] == 0
    assert [one["index"] for one in reply.json()["rejected"]] == [0]
    assert gateway.services.calls == []


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (body(), "events"),
        (body(*[GOOD] * 5001), "events"),
        (body(GOOD) | {"device_id": ""}, "device_id"),
        (body(GOOD) | {"device_id": "x" * 101}, "device_id"),
        (body(GOOD) | {"device_id": "a\0b"}, "device_id"),
        (body(GOOD) | {"device_id": 7}, "device_id"),
        (body(GOOD) | {"source": "s" * 201}, "source"),
        (body(GOOD) | {"extra": 1}, "extra"),
        ({"device_id": "d", "events": [GOOD]}, "source"),
        ({"device_id": "d", "source": "s", "events": "none"}, "events"),
        ([GOOD], ""),
    ],
)
async def test_a_request_that_is_wrong_besides_its_events_names_the_field(
    gateway: Gateway, owner: Person, payload: Any, field: str
) -> None:
    reply = await gateway.http.post("/v1/events", json=payload, headers=owner.headers)
    assert reply.status_code == 422, reply.text
    assert [error["field"] for error in reply.json()["errors"]] == [field]


async def test_what_ingest_refuses_is_told_as_it_says(gateway: Gateway, owner: Person) -> None:
    cases = [
        (Invalid.field("source", "is reserved"), 422),
        (Unavailable("later", retry_after_seconds=2.0), 503),
        (NotFound("gone"), 404),
    ]
    for error, status in cases:
        gateway.services.answers[ingest.AppendEventsRequest] = error
        reply = await gateway.http.post("/v1/events", json=body(GOOD), headers=owner.headers)
        assert reply.status_code == status
        assert reply.json()["detail"] == str(error)
    gateway.services.forget()


async def test_listing_maps_devices_to_what_agents_call_them(
    gateway: Gateway, owner: Person
) -> None:
    posted = await gateway.http.post("/v1/events", json=body(GOOD), headers=owner.headers)
    assert posted.is_success
    key = str(uuid5(UUID(owner.id), "laptop"))
    event_id = "0196f0c0-0000-7000-8000-000000000001"
    gateway.services.answers[ingest.ListEventsRequest] = lambda _: ingest.ListEventsResponse(
        events=[
            ingest.StoredEvent(
                event_id=event_id,
                device_id=key,
                source="test",
                start_us=T0,
                duration_us=1_500_000,
                flags=1,
                app="Code",
                data_json='{"a":1}',
                received_us=T0 + 1,
            )
        ],
        page=PageInfo(next_cursor="more"),
    )
    reply = await gateway.http.get(
        "/v1/events",
        params={
            "from": "2026-01-19T10:00:00+01:00",
            "to": "2026-01-20T00:00:00Z",
            "device_id": "laptop",
            "limit": 1000,
        },
        headers=owner.headers,
    )
    gateway_request = gateway.services.last(ingest.ListEventsRequest)[1]
    gateway.services.forget()
    assert gateway_request.device_id == key
    assert gateway_request.range.from_us == T0 - 3_600_000_000
    assert gateway_request.page.limit == 200
    page = reply.json()
    assert page["next_cursor"] == "more"
    assert page["items"][0] == {
        "id": event_id,
        "device_id": "laptop",
        "source": "test",
        "start": "2026-01-19T10:00:00Z",
        "duration": 1.5,
        "kind": "sample",
        "idle": False,
        "clamped": False,
        "app": "Code",
        "title": None,
        "url": None,
        "project": None,
        "file": None,
        "language": None,
        "category": None,
        "data": {"a": 1},
        "received_at": "2026-01-19T10:00:00.000001Z",
    }


async def test_deleting_says_whether_there_was_something(gateway: Gateway, owner: Person) -> None:
    url = "/v1/events/0196f0c0-0000-7000-8000-000000000001"
    assert (await gateway.http.delete(url, headers=owner.headers)).status_code == 404
    gateway.services.answers[ingest.DeleteEventRequest] = lambda _: ingest.DeleteEventResponse(
        was_removed=True
    )
    assert (await gateway.http.delete(url, headers=owner.headers)).status_code == 204
    gateway.services.forget()
    bad = await gateway.http.delete("/v1/events/../../x", headers=owner.headers)
    assert bad.status_code == 404
