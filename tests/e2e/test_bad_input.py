"""Bad input: a clear problem that names the field, nothing half-stored, and never a 5xx."""

import asyncio
import contextlib
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.support.endpoints import served_by
from tests.support.people import Person, event
from tests.support.problems import assert_problem
from tests.support.servers import Suite

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

GOOD: Final = event(0, 60)
UUID0: Final = "00000000-0000-0000-0000-000000000000"
JSON: Final = {"Content-Type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def eve(suite: Suite) -> AsyncIterator[Person]:
    """Somebody who never sends anything that should be kept, except where a test says so."""
    person = await Person.register(suite.url)
    yield person
    await person.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ned(suite: Suite) -> AsyncIterator[Person]:
    """Somebody whose events are good, but for one of them."""
    person = await Person.register(suite.url)
    yield person
    await person.close()


async def kept(person: Person, **filters: str) -> list[dict[str, Any]]:
    """Every event of a person that was stored."""
    items: list[dict[str, Any]] = (await person.ok("GET", "/v1/events", params=filters))["items"]
    return items


def batch(**changes: Any) -> dict[str, Any]:
    """A body of POST /v1/events that is right but for `changes`; None takes a field away."""
    body = {"device_id": "laptop", "source": "test", "events": [GOOD]} | changes
    return {name: value for name, value in body.items() if value is not None}


def spoilt(text: str, replacement: str) -> bytes:
    """A right body as text with one place changed."""
    good = json.dumps(batch())
    assert text in good
    return good.replace(text, replacement).encode()


WHOLE_BODIES: Final[dict[str, tuple[bytes | dict[str, Any], int, str | None]]] = {
    "nothing": (b"", 400, None),
    "half an object": (b'{"device_id": "lap', 400, None),
    "not JSON at all": (b"start=2026-01-01", 400, None),
    "not UTF-8": (b'{"device_id": "\xff"}', 400, None),
    "UTF-16": (json.dumps(batch()).encode("utf-16"), 400, None),
    "two objects": (json.dumps(batch()).encode() * 2, 400, None),
    "NaN": (spoilt('"duration": 60', '"duration": NaN'), 400, None),
    "infinity": (spoilt('"duration": 60', '"duration": -Infinity'), 400, None),
    "a hundred thousand brackets": (b"[" * 100_000, 400, None),
    "deep inside data": (
        spoilt('"idle": false', '"data": {"a": ' + "[" * 5_000 + "]" * 5_000 + "}"),
        400,
        None,
    ),
    "an array": (b"[]", 422, None),
    "null": (b"null", 422, None),
    "a number": (b"42", 422, None),
    "no device": (batch(device_id=None), 422, "device_id"),
    "a device that is a number": (batch(device_id=7), 422, "device_id"),
    "a device without a name": (batch(device_id=""), 422, "device_id"),
    "a device with a long name": (batch(device_id="x" * 101), 422, "device_id"),
    "a device with NUL in its name": (batch(device_id="a\0b"), 422, "device_id"),
    "no source": (batch(source=None), 422, "source"),
    "a source with a long name": (batch(source="x" * 201), 422, "source"),
    "a source with NUL in its name": (batch(source="a\0b"), 422, "source"),
    "an unknown field": (batch(user_id=UUID0), 422, "user_id"),
    "another organization": (batch(org_id=UUID0), 422, "org_id"),
    "no events": (batch(events=None), 422, "events"),
    "an empty list of events": (batch(events=[]), 422, "events"),
    "events that are none": (batch(events="all of them"), 422, "events"),
    "5,001 events": (batch(events=[GOOD] * 5_001), 422, "events"),
}


@pytest.mark.parametrize("name", WHOLE_BODIES)
async def test_a_bad_body_is_refused_as_a_whole(eve: Person, name: str) -> None:
    body, status, field = WHOLE_BODIES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await eve.client.post("/v1/events", content=content, headers=JSON)
    assert_problem(reply, status, field)
    assert await kept(eve) == []


ONE_EVENT: Final[dict[str, tuple[Any, str]]] = {
    "no start": ({"start": None}, "start"),
    "a start that is no time": ({"start": "yesterday"}, "start"),
    "a start that is a number": ({"start": 1_768_790_100}, "start"),
    "a start without an offset": ({"start": "2026-01-19T09:00:00"}, "start"),
    "the thirteenth month": ({"start": "2026-13-19T09:00:00Z"}, "start"),
    "the year 1": ({"start": "0001-01-01T00:00:00Z"}, "start"),
    "before the year 1": ({"start": "0001-01-01T00:00:00+14:00"}, "start"),
    "the year 9999": ({"start": "9999-12-31T23:59:59Z"}, "start"),
    "after the year 9999": ({"start": "9999-12-31T23:59:59-14:00"}, "start"),
    "an hour from now": ({"start": "2199-01-01T00:00:00Z"}, "start"),
    "a negative duration": ({"duration": -0.001}, "duration"),
    "a duration of a century": ({"duration": 3.2e9}, "duration"),
    "a duration beyond numbers": ({"duration": 1e300}, "duration"),
    "a duration that is text": ({"duration": "5"}, "duration"),
    "no duration": ({"duration": None}, "duration"),
    "a point that lasts": ({"kind": "point", "duration": 5}, "duration"),
    "an unknown kind": ({"kind": "nap"}, "kind"),
    "idle as text": ({"idle": "no"}, "idle"),
    "a long app": ({"app": "x" * 201}, "app"),
    "an app with NUL": ({"app": "a\0b"}, "app"),
    "an app that is a list": ({"app": ["a"]}, "app"),
    "a long title": ({"title": "x" * 1_001}, "title"),
    "a long url": ({"url": "https://e.org/" + "x" * 4_000}, "url"),
    "an empty id": ({"id": ""}, "id"),
    "a long id": ({"id": "x" * 201}, "id"),
    "data that is a list": ({"data": [1]}, "data"),
    "much data": ({"data": {"x": "y" * 9_000}}, "data"),
    "NUL deep in data": ({"data": {"x": [{"y": "\0"}]}}, "data.x[0].y"),
    "an unknown field": ({"colour": "red"}, "colour"),
    "a number": (5, ""),
    "null": (None, ""),
}


@pytest.mark.parametrize("name", ONE_EVENT)
async def test_a_bad_event_among_good_ones_is_rejected_alone(ned: Person, name: str) -> None:
    wrong, field = ONE_EVENT[name]
    if isinstance(wrong, dict):
        wrong = {key: value for key, value in (GOOD | wrong).items() if value is not None}
    events = [event(0, 60, app="before"), wrong, event(120, 60, app="after")]
    answer = await ned.send(events, device=name)
    assert (answer["accepted"], answer["duplicates"]) == (2, 0), answer
    [rejected] = answer["rejected"]
    assert rejected["index"] == 1, answer
    assert [error["field"] for error in rejected["errors"]] == [field], answer
    assert [one["app"] for one in await kept(ned, device_id=name)] == ["after", "before"]


Case = tuple[str, str, dict[str, Any], int, str | None]
REQUESTS: Final[tuple[Case, ...]] = (
    # Times and zones.
    ("GET", "/v1/events?from=2026-01-01T00:00:00Z", {}, 422, "to"),
    ("GET", "/v1/events?to=2026-01-01T00:00:00Z", {}, 422, "from"),
    ("GET", "/v1/events?from=yesterday&to=today", {}, 422, "from"),
    ("GET", "/v1/events?from=2026-01-01T00:00:00&to=2026-01-02T00:00:00", {}, 422, "from"),
    ("GET", "/v1/events?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", {}, 422, "to"),
    ("GET", "/v1/sessions", {}, 422, "date"),
    ("GET", "/v1/sessions?date=2026-02-30", {}, 422, "date"),
    ("GET", "/v1/sessions?date=2026-01-01&kind=nap", {}, 422, "kind"),
    ("GET", "/v1/sessions?date=2026-01-01&user_id=me", {}, 422, "user_id"),
    ("GET", "/v1/days/tomorrow", {}, 422, "date"),
    ("GET", "/v1/days/2026-02-30", {}, 422, "date"),
    ("GET", "/v1/days/2026-W05-1", {}, 422, "date"),
    ("GET", "/v1/days/0001-01-01", {}, 422, "date"),
    ("GET", "/v1/days/9999-12-31", {}, 422, "date"),
    ("GET", "/v1/days?from=2026-01-01", {}, 422, "to"),
    ("GET", "/v1/days?from=2026-01-02&to=2026-01-01", {}, 422, "to"),
    ("GET", "/v1/days?from=2026-01-01&to=2026-04-03", {}, 422, "to"),
    ("GET", "/v1/days?from=0001-01-01&to=0001-01-02", {}, 422, "from"),
    ("GET", "/v1/timeline", {}, 422, "from"),
    ("GET", "/v1/timeline?from=2026-01-01T00:00:00Z&to=2026-02-02T00:00:00Z", {}, 422, "to"),
    ("GET", "/v1/timeline?from=0001-01-01T00:00:00Z&to=9999-12-31T00:00:00Z", {}, 422, "to"),
    ("PATCH", "/v1/me", {"json": {"time_zone": "Mars/Olympus"}}, 422, "time_zone"),
    ("PATCH", "/v1/me", {"json": {"time_zone": "../../etc/passwd"}}, 422, "time_zone"),
    ("PATCH", "/v1/me", {"json": {"day_start": "25:00"}}, 422, "day_start"),
    ("PATCH", "/v1/me", {"json": {"name": ""}}, 422, "name"),
    ("PATCH", "/v1/me", {"json": {"name": "x" * 201}}, 422, "name"),
    ("PATCH", "/v1/me", {"json": {"role": "owner"}}, 422, "role"),
    ("PATCH", "/v1/me", {"content": b"{"}, 400, None),
    # Numbers and choices.
    ("GET", "/v1/events?limit=many", {}, 422, "limit"),
    ("GET", "/v1/events?limit=1.5", {}, 422, "limit"),
    ("GET", "/v1/events?device_id=" + "x" * 101, {}, 422, "device_id"),
    ("GET", "/v1/runs?state=napping", {}, 422, "state"),
    ("GET", "/v1/runs?schedule_id=nightly", {}, 422, "schedule_id"),
    ("GET", "/v1/ops/dead-letters?state=alive", {}, 422, "state"),
    ("GET", "/v1/presence?user_id=me", {}, 422, "user_id"),
    ("POST", "/v1/ops/dead-letters/replay", {"json": {"ids": []}}, 422, "ids"),
    ("POST", "/v1/ops/dead-letters/replay", {"json": {"ids": [UUID0] * 201}}, 422, "ids"),
    ("POST", "/v1/ops/dead-letters/discard", {"json": {"ids": ["all"]}}, 422, "ids[0]"),
    ("POST", "/v1/schedules/nobody/trigger", {"json": {"args": "all"}}, 422, "args"),
    ("POST", "/v1/schedules/nobody/trigger", {}, 404, None),
    ("GET", f"/v1/runs/{UUID0}", {}, 404, None),
    ("DELETE", f"/v1/events/{UUID0}", {}, 404, None),
    ("DELETE", f"/v1/api-keys/{UUID0}", {}, 404, None),
    ("PATCH", f"/v1/users/{UUID0}", {"json": {"suspended": True}}, 404, None),
    # Accounts.
    ("POST", "/v1/api-keys", {"json": {"name": "k", "scopes": []}}, 422, "scopes"),
    ("POST", "/v1/api-keys", {"json": {"name": "k", "scopes": ["all"]}}, 422, "scopes[0]"),
    (
        "POST",
        "/v1/api-keys",
        {"json": {"name": "k", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}},
        422,
        "expires_at",
    ),
    (
        "POST",
        "/v1/api-keys",
        {"json": {"name": "k", "scopes": ["read"], "expires_at": "9999-12-31T23:59:59-14:00"}},
        422,
        "expires_at",
    ),
    ("POST", "/v1/invitations", {"json": {"email": "nobody"}}, 422, "email"),
    ("POST", "/v1/invitations", {"json": {"email": "a@b.org", "role": "king"}}, 422, "role"),
    (
        "POST",
        "/v1/invitations",
        {"json": {"email": "a@b.org", "role": "guest", "guest_days": 0}},
        422,
        "guest_days",
    ),
    ("POST", "/v1/auth/register", {"json": {"email": "a@b.org"}}, 422, "password"),
    ("POST", "/v1/auth/login", {"json": {"email": "a@b.org", "password": "wrong"}}, 401, None),
    ("POST", "/v1/auth/refresh", {"json": {"refresh_token": "x"}}, 401, None),
    # Routes, methods and headers.
    ("GET", "/v1/nothing", {}, 404, None),
    ("GET", "/v1/runs/nightly", {}, 404, None),
    ("GET", "/../../etc/passwd", {}, 404, None),
    ("PUT", "/v1/events", {}, 405, None),
    ("DELETE", "/v1/sessions", {}, 405, None),
    ("POST", "/v1/me", {}, 405, None),
    ("GET", "/v1/auth/login", {}, 405, None),
    (
        "POST",
        "/v1/live/tickets",
        {"headers": {"Idempotency-Key": "x" * 256}},
        422,
        "Idempotency-Key",
    ),
)


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: f"{case[0]} {case[1][:80]} {case[4]}")
async def test_a_bad_request_is_a_problem(eve: Person, case: Case) -> None:
    method, path, arguments, status, field = case
    assert_problem(await eve.client.request(method, path, **arguments), status, field)


@pytest.mark.parametrize("limit", [0, -1, 1, 200, 100_000, 10**30])
async def test_a_limit_is_brought_into_range(eve: Person, limit: int) -> None:
    reply = await eve.client.get("/v1/events", params={"limit": limit})
    assert reply.status_code == 200, reply.text


def encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


CURSORS: Final = (
    "nonsense",
    "=",
    "💥",
    encoded("9" * 40),
    encoded("-" + "9" * 18),
    encoded("null"),
    encoded("[]"),
    encoded(f'["\\u0000", "{UUID0}"]'),
    encoded(f'[{10**30}, "{UUID0}"]'),
    encoded("x" * 48),
    "A" * 1_999,
    "A" * 3_000,
)


async def test_a_cursor_that_no_page_gave_is_refused_by_every_list(eve: Person) -> None:
    stretch = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    lists = [one for one in await served_by(eve.url) if "cursor" in one.queries]
    assert lists
    wrong = []
    for endpoint in lists:
        for cursor in CURSORS:
            needed = stretch if "from" in endpoint.queries else {}
            reply = await eve.client.get(endpoint.path, params=needed | {"cursor": cursor})
            try:
                assert_problem(reply, 422, "cursor")
            except AssertionError as error:
                wrong.append(f"{endpoint} {cursor[:50]}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data"])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/invitations"])
async def test_a_body_that_is_not_json_is_refused_whatever_it_calls_itself(
    eve: Person, path: str, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    reply = await eve.client.post(path, content=b"<xml/>", headers=headers)
    assert_problem(reply, 400)


AW: Final = "/api/0/buckets/aw-watcher-window_eve"
AW_CASES: Final[tuple[tuple[str, str, dict[str, Any], int], ...]] = (
    ("POST", AW, {"content": b"{"}, 400),
    ("POST", AW, {"json": {"type": 5, "client": "c", "hostname": "h"}}, 400),
    ("POST", AW, {"json": {}}, 400),
    ("POST", f"{AW}/heartbeat", {"json": {"timestamp": "2026-01-01T00:00:00Z"}}, 400),
    ("POST", f"{AW}/heartbeat?pulsetime=soon", {"json": {}}, 400),
    ("POST", f"{AW}/heartbeat?pulsetime=nan", {"json": {}}, 400),
    ("POST", f"{AW}/heartbeat?pulsetime=5", {"json": {}}, 400),
    ("POST", f"{AW}/heartbeat?pulsetime=5", {"content": b"nope"}, 400),
    ("POST", f"{AW}/heartbeat?pulsetime=5", {"json": {"timestamp": "yesterday"}}, 400),
    ("POST", f"{AW}/heartbeat?pulsetime=5", {"json": {"timestamp": "0001-01-01T00:00:00"}}, 400),
    ("POST", f"{AW}/heartbeat?pulsetime=5", {"json": {"timestamp": "9999-12-31T00:00:00"}}, 400),
    (
        "POST",
        f"{AW}/heartbeat?pulsetime=5",
        {"json": {"timestamp": "2026-01-01T00:00:00Z", "duration": "long"}},
        400,
    ),
    ("POST", f"{AW}/events", {"json": [{"timestamp": "yesterday"}]}, 400),
    ("POST", f"{AW}/events", {"json": "all"}, 400),
    ("GET", f"{AW}/events?limit=all", {}, 400),
    ("GET", f"{AW}/events?start=yesterday", {}, 400),
    ("GET", f"{AW}/events/count?end=9999-12-31T23:59:59-14:00", {}, 400),
    ("GET", f"{AW}-missing", {}, 404),
    ("GET", f"{AW}/events/{2**51}", {}, 404),
    ("GET", f"{AW}/events/{2**63}", {}, 400),
    ("POST", "/api/0/import", {"content": b"{"}, 400),
    ("POST", "/api/0/import", {"json": {"buckets": []}}, 400),
    ("GET", "/api/0/query", {}, 404),
)


@pytest.mark.parametrize("case", AW_CASES, ids=lambda case: f"{case[0]} {case[1]} {case[2]}"[:120])
async def test_activitywatch_clients_are_told_in_their_own_way(
    eve: Person, case: tuple[str, str, dict[str, Any], int]
) -> None:
    method, path, arguments, status = case
    await eve.client.post(AW, json={"type": "currentwindow", "client": "c", "hostname": "h"})
    reply = await eve.client.request(method, path, **arguments)
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert await kept(eve) == []


async def test_a_header_of_nonsense_is_no_server_error(eve: Person) -> None:
    strange = (
        {"traceparent": "00-zz-zz-zz"},
        {"X-Request-ID": "a b" * 300},
        {"Accept": "application/x-nothing"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer " + "é" * 100},
        {"Authorization": ""},
        {"Content-Encoding": "gzip"},
    )
    for headers in strange:
        raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
        reply = await eve.client.post("/v1/events", json=batch(events=[]), headers=raw)
        assert reply.status_code in {401, 422}, f"{headers}: {reply.status_code} {reply.text}"


MEBIBYTE: Final = 1024 * 1024


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/v1/events", 8), ("/v1/invitations", 8), ("/api/0/import", 32)],
)
@pytest.mark.parametrize("is_declared", [True, False], ids=["with its length", "in chunks"])
async def test_fifty_megabytes_are_refused_before_they_are_sent(
    eve: Person, path: str, limit: int, is_declared: bool
) -> None:
    length = f"Content-Length: {50 * MEBIBYTE}" if is_declared else "Transfer-Encoding: chunked"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: timeloom\r\nAuthorization: Bearer {eve.token}\r\n"
        f"Content-Type: application/json\r\n{length}\r\n\r\n"
    )
    block = b" " * 65_536
    chunk = block if is_declared else b"%x\r\n%b\r\n" % (len(block), block)
    # What says how long it is need not be read at all; the rest, to its limit and no further.
    blocks = 1 if is_declared else (limit + 1) * MEBIBYTE // len(block)
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(eve.url).port)
    async with asyncio.timeout(20):
        writer.write(head.encode())
        # The gateway may have hung up already.
        with contextlib.suppress(OSError):
            for _ in range(blocks):
                writer.write(chunk)
                await writer.drain()
        status = await reader.readline()
    writer.close()
    assert b" 413 " in status, status
    assert await kept(eve) == []
