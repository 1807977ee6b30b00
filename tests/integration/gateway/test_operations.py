"""Schedules, runs and dead letters over HTTP; health; the description of it all."""

from typing import Any

import pytest

from chassis.errors import NotFound
from protos.scheduler.v1 import scheduler_pb2 as pb
from tests.integration.gateway.conftest import Gateway, Person

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

RUN_ID = "0196f0c0-0000-7000-8000-000000000001"
LETTER_ID = "0196f0c0-0000-7000-8000-000000000002"


async def test_a_schedule_is_triggered_paused_and_resumed_by_name(
    gateway: Gateway, owner: Person
) -> None:
    run = pb.Run(id=RUN_ID, job="ingest.partitions", state="queued", result_json='{"n":1}')
    gateway.services.answers[pb.TriggerScheduleRequest] = lambda _: pb.TriggerScheduleResponse(
        run=run
    )
    path = "/v1/schedules/ingest-partitions"
    reply = await gateway.http.post(
        f"{path}/trigger", json={"args": {"months": 2}}, headers=owner.headers
    )
    assert reply.status_code == 201
    assert reply.json()["id"] == RUN_ID
    assert reply.json()["result"] == {"n": 1}
    _, asked = gateway.services.last(pb.TriggerScheduleRequest)
    assert (asked.schedule, asked.args_json) == ("ingest-partitions", '{"months":2}')
    bare = await gateway.http.post(f"{path}/trigger", headers=owner.headers)
    assert bare.status_code == 201
    assert gateway.services.last(pb.TriggerScheduleRequest)[1].args_json == ""

    for verb, is_paused in (("pause", True), ("resume", False)):
        reply = await gateway.http.post(f"{path}/{verb}", headers=owner.headers)
        assert reply.status_code == 200
        assert gateway.services.last(pb.PauseScheduleRequest)[1].is_paused is is_paused
    audit = (await gateway.http.get("/v1/audit?limit=4", headers=owner.headers)).json()["items"]
    assert [entry["action"] for entry in audit] == [
        "schedule.resumed",
        "schedule.paused",
        "schedule.triggered",
        "schedule.triggered",
    ]
    gateway.services.forget()


async def test_a_run_shows_every_attempt(gateway: Gateway, owner: Person) -> None:
    attempts = [
        pb.Attempt(number=1, started_us=1, finished_us=2, error_kind="unavailable"),
        pb.Attempt(number=2, started_us=3),
    ]
    gateway.services.answers[pb.GetRunRequest] = lambda _: pb.GetRunResponse(
        run=pb.Run(id=RUN_ID, state="running", attempts=attempts)
    )
    run = (await gateway.http.get(f"/v1/runs/{RUN_ID}", headers=owner.headers)).json()
    assert [attempt["error_kind"] for attempt in run["attempts"]] == ["unavailable", None]
    assert run["attempts"][1]["finished_at"] is None
    assert run["result"] is None
    gateway.services.answers[pb.GetRunRequest] = NotFound("There is no such run.")
    gone = await gateway.http.get(f"/v1/runs/{RUN_ID}", headers=owner.headers)
    assert (gone.status_code, gone.json()["detail"]) == (404, "There is no such run.")
    gateway.services.forget()


async def test_dead_letters_are_read_replayed_and_discarded(
    gateway: Gateway, owner: Person
) -> None:
    gateway.services.answers[pb.GetDeadLetterRequest] = lambda _: pb.GetDeadLetterResponse(
        letter=pb.DeadLetter(id=LETTER_ID, payload=b"\x00\xff", state="open")
    )
    gateway.services.answers[pb.ReplayDeadLettersRequest] = lambda r: pb.ReplayDeadLettersResponse(
        replayed=r.ids
    )
    path = "/v1/ops/dead-letters"
    letter = (await gateway.http.get(f"{path}/{LETTER_ID}", headers=owner.headers)).json()
    assert letter["payload"] == "AP8="
    replayed = await gateway.http.post(
        f"{path}/replay", json={"ids": [LETTER_ID], "dry_run": True}, headers=owner.headers
    )
    assert replayed.json() == {"replayed": [LETTER_ID], "skipped": []}
    assert gateway.services.last(pb.ReplayDeadLettersRequest)[1].is_dry_run
    discarded = await gateway.http.post(
        f"{path}/discard", json={"ids": [LETTER_ID]}, headers=owner.headers
    )
    assert discarded.json() == {"discarded": []}
    gateway.services.forget()


@pytest.mark.parametrize(
    ("path", "request_type"),
    [
        ("/v1/schedules", pb.ListSchedulesRequest),
        ("/v1/runs", pb.ListRunsRequest),
        ("/v1/ops/dead-letters", pb.ListDeadLettersRequest),
    ],
)
async def test_lists_pass_pages_on(
    gateway: Gateway, owner: Person, path: str, request_type: type
) -> None:
    url = f"{path}?limit=7&cursor=abc"
    reply = await gateway.http.get(url, headers=owner.headers)
    assert reply.json() == {"items": [], "next_cursor": None}
    page = gateway.services.last(request_type)[1].page
    assert (page.limit, page.cursor) == (7, "abc")


async def test_a_machine_with_the_scope_may_trigger_and_others_may_not(
    gateway: Gateway, owner: Person
) -> None:
    path = "/v1/schedules/x/trigger"
    jobs = {"x-api-key": await gateway.key(owner, "jobs:write")}
    read = {"x-api-key": await gateway.key(owner, "read")}
    assert (await gateway.http.post(path, headers=jobs)).status_code == 201
    assert (await gateway.http.post(path, headers=read)).status_code == 403


async def test_health_tells_the_parts_apart(gateway: Gateway) -> None:
    assert (await gateway.http.get("/livez")).json() == {"status": "ok"}
    ready = (await gateway.http.get("/readyz")).json()
    assert ready == {"status": "ok", "parts": {"process": "ok", "postgres": "ok", "nats": "ok"}}
    health = await gateway.http.get("/health")
    assert health.status_code == 200
    assert set(health.json()["parts"]) >= {"ingest", "sessions", "scheduler", "realtime"}
    assert (await gateway.http.get("/dbcheck")).json()["status"] == "ok"
    metrics = (await gateway.http.get("/metrics")).text
    assert "timeloom_http_duration_seconds" in metrics


async def test_the_description_covers_every_route(gateway: Gateway) -> None:
    schema = (await gateway.http.get("/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    assert references(schema) <= {
        f"#/components/schemas/{name}" for name in schema["components"]["schemas"]
    }
    body = schema["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/PostEvents"}
    event = schema["components"]["schemas"]["NewEvent"]
    assert set(event["required"]) == {"start", "duration"}
    assert event["additionalProperties"] is False
    for path, operations in schema["paths"].items():
        for operation in operations.values() if path.startswith("/v1/") else ():
            assert "400" not in operation["responses"]
            assert "application/problem+json" in operation["responses"]["default"]["content"]
    docs = (await gateway.http.get("/docs")).text
    for path in schema["paths"]:
        assert f" {path}<" in docs
    assert "<script" not in docs


def references(node: Any) -> set[str]:
    """Every local reference in a document."""
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()
