"""One trace from the HTTP request to the WebSocket message, by the names the README prints."""

import secrets
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.otlp import OtlpReceiver, SpanSeen
from tests.support.people import Person, event
from tests.support.servers import Suite

pytestmark = pytest.mark.e2e


def lineage(spans: list[SpanSeen], last: SpanSeen) -> list[str]:
    """`service: span` from the root to a span, by parents."""
    by_id = {span.span_id: span for span in spans}
    path = [last]
    while path[-1].parent in by_id:
        path.append(by_id[path[-1].parent])
    return [repr(span).removeprefix("timeloom-") for span in reversed(path)]


def new_trace() -> tuple[str, dict[str, str]]:
    trace_id = secrets.token_hex(16)
    return trace_id, {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}


async def path_to(traces: OtlpReceiver, trace_id: str, name: str) -> list[str]:
    """The lineage of the span of that name, once all of it has arrived: it begins at the gateway."""
    found: list[SpanSeen] = []

    async def arrived() -> bool:
        found[:] = [span for span in traces.trace(trace_id) if span.name == name]
        path = lineage(traces.trace(trace_id), found[0]) if found else [""]
        return path[0].startswith("gateway: POST")

    await eventually(arrived, within=20)
    return lineage(traces.trace(trace_id), found[0])


async def test_an_event_is_one_trace_through_gateway_ingest_sessions_and_realtime(
    ana: Person, traces: OtlpReceiver
) -> None:
    trace_id, headers = new_trace()
    async with ana.live() as live:
        body: dict[str, Any] = {
            "device_id": "laptop",
            "source": "test",
            "events": [event(0, 60)],
        }
        await ana.ok("POST", "/v1/events", json=body, headers=headers)
        await live.until(lambda message: message.get("event") == "session.updated")
    assert await path_to(traces, trace_id, "live send") == [
        "gateway: POST /v1/events",
        "ingest: ingest append",
        "ingest: ingest commit group",
        "sessions: sessions recompute",
        "realtime: live fan out",
        "gateway: live send",
    ]


async def test_a_run_is_one_trace_through_gateway_scheduler_and_the_service_that_works(
    suite: Suite, traces: OtlpReceiver
) -> None:
    email, password = suite.owner
    import httpx

    async with httpx.AsyncClient(base_url=suite.url, timeout=30) as client:
        account = {"email": email, "password": password}
        token = (await client.post("/v1/auth/login", json=account)).json()["access_token"]
        trace_id, headers = new_trace()
        headers["Authorization"] = f"Bearer {token}"
        reply = await client.post("/v1/schedules/sessions.verify/trigger", headers=headers)
        assert reply.is_success, reply.text
        run_id = reply.json()["id"]

        async def succeeded() -> bool:
            run = (await client.get(f"/v1/runs/{run_id}", headers=headers)).json()
            return bool(run["state"] == "succeeded")

        await eventually(succeeded, within=30)
    assert await path_to(traces, trace_id, "job run") == [
        "gateway: POST /v1/schedules/{schedule}/trigger",
        "scheduler: timeloom.scheduler.v1.SchedulerService/TriggerSchedule",
        "sessions: job run",
    ]
