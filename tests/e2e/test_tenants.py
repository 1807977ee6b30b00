"""Promise P8: organizations never meet, over every endpoint there is.

The list of endpoints is the running gateway's own. One that is new to the tables below fails a
test until somebody says what of another organization could be asked of it.
"""

from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from tests.support.endpoints import Endpoint, served_by
from tests.support.eventually import eventually
from tests.support.house import INJECTIONS, House, window_event
from tests.support.people import NOON, Person, event
from tests.support.servers import Suite

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

DAY: Final = NOON.date().isoformat()
STRETCH: Final = {"from": f"{DAY}T00:00:00Z", "to": f"{DAY}T23:00:00Z"}
BUCKET: Final = {"type": "currentwindow", "client": "c", "hostname": "h"}

# What goes into a place of a path: the kind of a House's id, or the text itself after a `=`.
PLACES: Final = {
    "/api/0/buckets/{bucket}": {"bucket": "bucket"},
    "/api/0/buckets/{bucket}/events": {"bucket": "bucket"},
    "/api/0/buckets/{bucket}/events/count": {"bucket": "bucket"},
    "/api/0/buckets/{bucket}/events/{event_id}": {"bucket": "bucket", "event_id": "bucket_event"},
    "/api/0/buckets/{bucket}/export": {"bucket": "bucket"},
    "/api/0/buckets/{bucket}/heartbeat": {"bucket": "bucket"},
    "/v1/api-keys/{key_id}": {"key_id": "key"},
    "/v1/days/{date}": {"date": f"={DAY}"},
    "/v1/events/{event_id}": {"event_id": "event"},
    "/v1/invitations/{invitation_id}": {"invitation_id": "invitation"},
    "/v1/ops/dead-letters/{letter_id}": {"letter_id": "letter"},
    "/v1/runs/{run_id}": {"run_id": "run"},
    "/v1/schedules/{schedule}/pause": {"schedule": "schedule"},
    "/v1/schedules/{schedule}/resume": {"schedule": "schedule"},
    "/v1/schedules/{schedule}/trigger": {"schedule": "schedule"},
    "/v1/users/{user_id}": {"user_id": "member"},
}
# Places for names that everybody gives to things of their own: using one is no trespass, and must
# not touch the namesake.
OWN_NAMES: Final = {
    "GET /v1/days/{date}",
    "POST /api/0/buckets/{bucket}",
    "POST /api/0/buckets/{bucket}/events",
    "POST /api/0/buckets/{bucket}/heartbeat",
}
# What a request needs besides, so that whoever may make it succeeds.
NEEDS: Final[dict[str, dict[str, Any]]] = {
    "DELETE /api/0/buckets/{bucket}": {"params": {"force": "1"}},
    "GET /v1/days": {"params": {"from": DAY, "to": DAY}},
    "GET /v1/sessions": {"params": STRETCH},
    "GET /v1/timeline": {"params": STRETCH},
    "PATCH /v1/users/{user_id}": {"json": {"suspended": True}},
    "POST /api/0/buckets/{bucket}": {"json": BUCKET},
    "POST /api/0/buckets/{bucket}/events": {"json": [window_event("mine", minutes=5)]},
    "POST /api/0/buckets/{bucket}/heartbeat": {
        "params": {"pulsetime": "60"},
        "json": window_event("mine", minutes=9),
    },
    "PUT /api/0/buckets/{bucket}": {"json": BUCKET},
}
# Bodies that name things by id, and are answered for each id. `=` as above.
IDS_IN_BODIES: Final[dict[str, dict[str, str]]] = {
    "POST /v1/ops/dead-letters/discard": {"ids": "letter"},
    "POST /v1/ops/dead-letters/replay": {"ids": "letter"},
}
# Changes that can't name anything of anybody else's: they say nothing but what is one's own.
NAME_NOTHING: Final = {
    "DELETE /v1/me",
    "PATCH /v1/me",
    "POST /api/0/import",
    "POST /v1/api-keys",
    "POST /v1/auth/logout",
    "POST /v1/auth/refresh",
    "POST /v1/auth/register",
    "POST /v1/events",
    "POST /v1/invitations",
    "POST /v1/invitations/accept",
    "POST /v1/live/tickets",
}
# These have a test of their own.
ELSEWHERE: Final = {"GET /v1/live/sse", "POST /v1/auth/login"}

# Queries that may name something of somebody: the kind of a House's id.
FOREIGN_QUERIES: Final = {
    "user_id": "member",
    "schedule_id": "schedule",
    "device_id": "device_name",
    "source": "source",
    "category": "category",
    "consumer": "consumer",
}
# Queries that can't, and what whoever asks would give.
PLAIN_QUERIES: Final = {"limit": "200", "force": "1", "pulsetime": "60"}
IGNORED_QUERIES: Final = {"from", "to", "start", "end", "date", "kind", "state", "cursor"}
# Lists that are empty here, or are about the installation and not about anybody.
SHOW_NOBODY: Final = {
    "/api/0/info",
    "/dbcheck",
    "/health",
    "/livez",
    "/metrics",
    "/readyz",
    "/v1/scheduler/status",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def endpoints(suite: Suite) -> list[Endpoint]:
    return [one for one in await served_by(suite.url) if str(one) not in ELSEWHERE]


def places_of(endpoint: Endpoint, house: House) -> dict[str, str]:
    """What of `house` goes into the path."""
    kinds = PLACES[endpoint.path]
    return {
        place: kinds[place][1:] if kinds[place].startswith("=") else house.ids[kinds[place]]
        for place in endpoint.places
    }


async def ask(
    endpoint: Endpoint, house: House, credential: dict[str, str], **more: Any
) -> httpx.Response:
    """The request about things of `house` that would succeed for its owner."""
    arguments = NEEDS.get(str(endpoint), {}) | more
    if kinds := IDS_IN_BODIES.get(str(endpoint)):
        arguments = {"json": {field: [house.ids[kind]] for field, kind in kinds.items()}}
    return await house.client.request(
        endpoint.method,
        endpoint.address(places_of(endpoint, house) if endpoint.places else {}),
        headers=credential,
        **arguments,
    )


async def test_the_tables_know_every_endpoint_and_parameter(endpoints: list[Endpoint]) -> None:
    unknown = [
        str(one)
        for one in endpoints
        if (
            one.path not in PLACES
            if one.places
            else one.method != "GET" and str(one) not in {*IDS_IN_BODIES, *NAME_NOTHING}
        )
    ]
    assert not unknown, f"say in the tables what of others could be asked of {unknown}"
    known = {*FOREIGN_QUERIES, *PLAIN_QUERIES, *IGNORED_QUERIES}
    strange = [
        (str(one), query) for one in endpoints for query in one.queries if query not in known
    ]
    assert not strange, f"say in the tables what these could name: {strange}"
    gone = [path for path in PLACES if path not in {one.path for one in endpoints}]
    assert not gone, f"no such endpoints any more: {gone}"


async def test_no_id_of_another_organization_opens_anything(
    first: House, second: House, endpoints: list[Endpoint]
) -> None:
    wrong: list[str] = []
    by_id = [one for one in endpoints if one.places or str(one) in IDS_IN_BODIES]
    for endpoint in (one for one in by_id if str(one) not in OWN_NAMES):
        for credential in second.credentials:
            reply = await ask(endpoint, first, credential)
            said = f"{endpoint} with {list(credential)}: {reply.status_code} {reply.text[:200]}"
            if str(endpoint) in IDS_IN_BODIES and reply.is_success:
                # Answered for each id: nothing was done to this one.
                done = [reply.json().get("replayed"), reply.json().get("discarded")]
                wrong += [said] if any(done) else []
            elif reply.status_code not in {403, 404}:
                wrong.append(said)
            if first.seen_in(reply):
                wrong.append(f"{said} shows {first.seen_in(reply)}")
    assert not wrong, "\n".join(wrong)


async def test_no_list_shows_anything_of_another_organization(
    first: House, second: House, endpoints: list[Endpoint]
) -> None:
    wrong: list[str] = []
    for endpoint in (one for one in endpoints if one.method == "GET" and not one.places):
        if endpoint.path not in SHOW_NOBODY:
            own = await ask(endpoint, second, second.own)
            # Or the test could not see a leak.
            wrong += [] if own.is_success and second.seen_in(own) else [f"{endpoint} {own.text}"]
        for credential in second.credentials:
            reply = await ask(endpoint, second, credential)
            if reply.status_code >= 500 or first.seen_in(reply):
                wrong.append(f"{endpoint} with {list(credential)}: {reply.text[:300]}")
    assert not wrong, "\n".join(wrong)


async def test_no_query_reaches_into_another_organization(
    first: House, second: House, endpoints: list[Endpoint]
) -> None:
    named = first.ids | {
        "device_name": f"{first.marker} laptop",
        "source": f"{first.marker} agent",
        "category": f"{first.marker} category",
        "consumer": "sessions-activity-0",
    }
    wrong: list[str] = []
    for endpoint in (one for one in endpoints if one.method == "GET"):
        tries = [{q: named[FOREIGN_QUERIES[q]]} for q in endpoint.queries if q in FOREIGN_QUERIES]
        if "cursor" in endpoint.queries:
            # Where a page of theirs ended is where ours would go on.
            params = NEEDS.get(str(endpoint), {}).get("params", {}) | {"limit": "1"}
            page = await ask(endpoint, first, first.own, params=params)
            assert page.is_success, page.text
            tries += [{"cursor": page.json()["next_cursor"] or "none"}]
        for query in tries:
            params = NEEDS.get(str(endpoint), {}).get("params", {}) | query
            for credential in second.credentials:
                reply = await ask(endpoint, second, credential, params=params)
                if reply.status_code >= 500 or first.seen_in(reply):
                    wrong.append(f"{endpoint} {query}: {reply.status_code} {reply.text[:300]}")
    assert not wrong, "\n".join(wrong)


async def test_no_text_in_an_address_escapes_its_place(
    first: House, second: House, endpoints: list[Endpoint]
) -> None:
    wrong: list[str] = []

    async def try_it(endpoint: Endpoint, address: str, query: dict[str, str]) -> None:
        arguments = NEEDS.get(str(endpoint), {})
        arguments = arguments | {"params": arguments.get("params", {}) | query}
        reply = await second.client.request(
            endpoint.method, address, headers=second.own, **arguments
        )
        may_succeed = endpoint.method == "GET" or "bucket" in endpoint.places
        is_fine = (200 if may_succeed else 400) <= reply.status_code < 500
        if not is_fine or first.seen_in(reply):
            said = f"{reply.status_code} {reply.text}"
            wrong.append(f"{endpoint.method} {address[:100]} {query}: {said}")

    for endpoint in endpoints:
        for text in INJECTIONS:
            if endpoint.places:
                address = endpoint.address(dict.fromkeys(endpoint.places, text))
                await try_it(endpoint, address, {})
            elif endpoint.method == "GET":
                for name in endpoint.queries:
                    await try_it(endpoint, endpoint.path, {name: text})
    assert not wrong, "\n".join(wrong)


async def test_nobody_signs_in_to_an_organization_they_are_not_in(
    first: House, second: House
) -> None:
    own = {"email": second.owner.email, "password": "correct horse"}
    theirs = own | {"organization_id": first.ids["org"]}
    reply = await second.owner.client.post("/v1/auth/login", json=theirs)
    assert reply.status_code in {401, 404}
    assert not first.seen_in(reply)


async def test_a_namesake_of_a_bucket_is_another_bucket(
    first: House, second: House, endpoints: list[Endpoint]
) -> None:
    place = f"/api/0/buckets/{first.ids['bucket']}"
    for endpoint in (one for one in endpoints if str(one) in OWN_NAMES):
        for credential in second.credentials:
            reply = await ask(endpoint, first, credential)
            assert reply.status_code in {200, 304}, f"{endpoint}: {reply.text}"
            assert not first.seen_in(reply), f"{endpoint}: {reply.text}"
    event = f"{place}/events/{first.ids['bucket_event']}"
    assert (await second.owner.client.get(event)).status_code == 404
    removed = await second.owner.client.delete(event)
    assert removed.status_code == 404 or removed.json() == {"success": False}
    await second.owner.ok("DELETE", place, params={"force": "1"})
    kept = await first.owner.ok("GET", f"{place}/events")
    assert [one["data"]["title"] for one in kept] == [first.marker]


async def test_what_says_the_same_is_not_the_same(suite: Suite, first: House) -> None:
    """Ids of events come from what they say, so strangers may well have the same ones."""
    twin = await Person.register(suite.url)
    about = event(11 * 3600, 60, app="Twin", title="of us both")
    for person in (first.owner, twin):
        assert (await person.send([about], device="twins"))["accepted"] == 1

    async def seen_by(person: Person) -> list[str]:
        page = await person.ok("GET", "/v1/events", params={"device_id": "twins"})
        return [one["id"] for one in page["items"]]

    [theirs], [ours] = await seen_by(first.owner), await seen_by(twin)
    assert theirs == ours
    await twin.ok("DELETE", f"/v1/events/{ours}")
    assert (await seen_by(first.owner), await seen_by(twin)) == ([theirs], [])
    await twin.ok("DELETE", "/v1/me", json={"password": "correct horse"})

    async def erased() -> bool:
        return (await twin.client.get("/v1/me")).status_code == 401

    await eventually(erased, within=10)
    assert await seen_by(first.owner) == [theirs]
    await twin.close()


async def test_colleagues_see_what_their_role_allows(first: House) -> None:
    """Inside one organization: a member has their own things, and nothing of the owner's."""
    member = first.member.client
    for path in ("/v1/sessions", "/v1/timeline"):
        query = STRETCH | {"user_id": first.ids["owner"]}
        assert (await member.get(path, params=query)).status_code == 403, path
    for path in (f"/v1/days/{DAY}", "/v1/devices", "/v1/api-keys", "/v1/presence"):
        reply = await member.get(path, params={"user_id": first.ids["owner"]})
        assert reply.status_code == 403, path
    for path in ("/v1/users", "/v1/audit", "/v1/invitations", "/v1/ops/dead-letters", "/v1/runs"):
        assert (await member.get(path)).status_code == 403, path
    assert (await member.delete(f"/v1/events/{first.ids['event']}")).status_code == 404
    assert (await member.delete(f"/v1/api-keys/{first.ids['key']}")).status_code in {403, 404}
    own_role = await member.patch(f"/v1/users/{first.ids['member']}", json={"role": "owner"})
    assert own_role.status_code == 403


async def test_what_strangers_were_refused_is_there_and_open_to_its_owner(
    first: House, endpoints: list[Endpoint]
) -> None:
    """Last, because it removes things. Without it a mistake in the tables would look like safety."""
    wrong: list[str] = []
    for endpoint in (one for one in endpoints if one.places or str(one) in IDS_IN_BODIES):
        reply = await ask(endpoint, first, first.own)
        # Where a bucket is made that is there already, the dialect says so.
        if not (reply.is_success or reply.status_code == 304):
            wrong.append(f"{endpoint}: {reply.status_code} {reply.text}")
    assert not wrong, "\n".join(wrong)
