"""Members: invitations, roles, suspension, zones and erasure, over HTTP."""

import asyncio
from typing import Any

import nats
import pytest

from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement
from tests.integration.gateway.conftest import PASSWORD, Gateway, Person, person_of
from tests.support.eventually import eventually

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


async def announced(gateway: Gateway, org_id: str) -> list[AccountsAnnouncement]:
    """What the accounts stream says about an organization, oldest first."""
    client = await nats.connect(**gateway.nats)
    try:
        found: list[AccountsAnnouncement] = []
        jetstream = client.jetstream()
        subject = f"accounts.v1.{org_id}"
        consumer = await jetstream.pull_subscribe(subject, durable=f"test-{org_id}")
        while True:
            try:
                batch = await consumer.fetch(100, timeout=0.3)
                found.extend(AccountsAnnouncement.FromString(message.data) for message in batch)
            except TimeoutError:
                return found
    finally:
        await client.close()


async def patch_user(gateway: Gateway, by: Person, whom: Person, **change: Any) -> tuple[int, Any]:
    reply = await gateway.http.patch(f"/v1/users/{whom.id}", json=change, headers=by.headers)
    return reply.status_code, reply.json()


async def test_an_invitation_gives_its_role_once(gateway: Gateway) -> None:
    owner = await gateway.register()
    invited = await gateway.http.post(
        "/v1/invitations",
        json={"email": "new.manager@example.com", "role": "manager"},
        headers=owner.headers,
    )
    assert invited.status_code == 201
    accept = {"token": invited.json()["token"], "name": "Mia", "password": PASSWORD}
    first = await gateway.http.post("/v1/invitations/accept", json=accept)
    assert first.status_code == 201
    manager = person_of(first.json())
    assert first.json()["user"]["role"] == "manager"
    assert manager.org_id == owner.org_id
    again = await gateway.http.post("/v1/invitations/accept", json=accept)
    assert again.status_code == 401
    listed = await gateway.http.get("/v1/invitations", headers=owner.headers)
    assert [(one["state"], one["token"]) for one in listed.json()["items"]] == [("accepted", None)]


async def test_a_revoked_invitation_opens_nothing(gateway: Gateway) -> None:
    owner = await gateway.register()
    invited = (
        await gateway.http.post(
            "/v1/invitations", json={"email": "late@example.com"}, headers=owner.headers
        )
    ).json()
    url = f"/v1/invitations/{invited['id']}"
    assert (await gateway.http.delete(url, headers=owner.headers)).status_code == 204
    assert (await gateway.http.delete(url, headers=owner.headers)).status_code == 204
    accept = {"token": invited["token"], "name": "Late", "password": PASSWORD}
    assert (await gateway.http.post("/v1/invitations/accept", json=accept)).status_code == 401


async def test_whoever_has_an_account_joins_with_its_password(gateway: Gateway) -> None:
    host, guest_owner = await gateway.register(), await gateway.register()
    invited = (
        await gateway.http.post(
            "/v1/invitations", json={"email": guest_owner.email}, headers=host.headers
        )
    ).json()
    accept = {"token": invited["token"], "name": "Both", "password": "not my password"}
    assert (await gateway.http.post("/v1/invitations/accept", json=accept)).status_code == 401
    joined = await gateway.http.post("/v1/invitations/accept", json=accept | {"password": PASSWORD})
    assert joined.status_code == 201
    assert joined.json()["user"]["id"] == guest_owner.id
    login = {"email": guest_owner.email, "password": PASSWORD}
    at_home = await gateway.http.post("/v1/auth/login", json=login)
    assert at_home.json()["organization"]["id"] == guest_owner.org_id
    away = await gateway.http.post("/v1/auth/login", json=login | {"organization_id": host.org_id})
    assert away.json()["organization"]["id"] == host.org_id
    member_again = await gateway.http.post(
        "/v1/invitations", json={"email": guest_owner.email}, headers=host.headers
    )
    assert member_again.status_code == 409


ROLES = ["guest", "member", "manager", "admin", "owner"]


@pytest.mark.parametrize("role", ROLES)
async def test_roles_decide_what_one_may_do(gateway: Gateway, role: str) -> None:
    owner = await gateway.register()
    person = await gateway.join(owner, role)
    rank = ROLES.index(role)

    async def status(method: str, path: str, **options: Any) -> int:
        reply = await gateway.http.request(method, path, headers=person.headers, **options)
        return reply.status_code

    assert await status("GET", "/v1/me") == 200
    assert await status("GET", "/v1/users") == (200 if rank >= 2 else 403)
    assert await status("GET", "/v1/audit") == (200 if rank >= 3 else 403)
    assert await status("GET", "/v1/invitations") == (200 if rank >= 3 else 403)
    assert await status("GET", "/v1/schedules") == (200 if rank >= 3 else 403)
    assert await status("GET", "/v1/ops/dead-letters") == (200 if rank >= 3 else 403)
    invite = {"email": f"by{role}@example.com", "role": "owner"}
    assert await status("POST", "/v1/invitations", json=invite) == (201 if rank == 4 else 403)
    # Nobody raises themselves, whatever they are.
    assert await status("PATCH", f"/v1/users/{person.id}", json={"role": "owner"}) == 403
    assert (await gateway.http.get("/v1/me", headers=person.headers)).json()["user"]["role"] == role


async def test_nobody_reaches_above_their_own_role(gateway: Gateway) -> None:
    owner = await gateway.register()
    admin, member = await gateway.join(owner, "admin"), await gateway.join(owner, "member")
    assert (await patch_user(gateway, admin, owner, suspended=True))[0] == 403
    assert (await patch_user(gateway, admin, member, role="owner"))[0] == 403
    assert (await patch_user(gateway, admin, member, role="admin"))[0] == 200
    assert (await patch_user(gateway, owner, admin, role="member"))[0] == 200
    # The change holds at once, for a token that was issued before it.
    assert (await gateway.http.get("/v1/audit", headers=admin.headers)).status_code == 403
    assert (await gateway.http.get("/v1/audit", headers=member.headers)).status_code == 200


async def test_the_last_owner_stays(gateway: Gateway) -> None:
    owner = await gateway.register()
    second = await gateway.join(owner, "owner")
    assert (await patch_user(gateway, second, owner, role="member"))[0] == 200
    refused = await gateway.http.request(
        "DELETE", "/v1/me", json={"password": PASSWORD}, headers=second.headers
    )
    assert refused.status_code == 409
    assert (await patch_user(gateway, owner, second, role="member"))[0] == 403


async def test_two_owners_can_not_demote_each_other_at_once(gateway: Gateway) -> None:
    first = await gateway.register()
    second = await gateway.join(first, "owner")
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(patch_user(gateway, first, second, role="member")),
            group.create_task(patch_user(gateway, second, first, role="member")),
        ]
    assert sorted(task.result()[0] for task in tasks) in ([200, 403], [200, 409])


async def test_members_of_other_organizations_do_not_exist(gateway: Gateway) -> None:
    owner, stranger = await gateway.register(), await gateway.register()
    assert (await patch_user(gateway, owner, stranger, suspended=True))[0] == 404
    listed = (await gateway.http.get("/v1/users", headers=owner.headers)).json()["items"]
    assert [user["id"] for user in listed] == [owner.id]


async def test_a_suspended_member_is_out_at_once_with_their_keys(gateway: Gateway) -> None:
    owner = await gateway.register()
    member = await gateway.join(owner, "member")
    key = {"x-api-key": await gateway.key(member, "read")}
    assert (await gateway.http.get("/v1/me", headers=key)).status_code == 200
    assert (await patch_user(gateway, owner, member, suspended=True))[0] == 200
    for headers in (member.headers, key):
        assert (await gateway.http.get("/v1/me", headers=headers)).status_code == 401
    refresh = {"refresh_token": member.refresh_token}
    assert (await gateway.http.post("/v1/auth/refresh", json=refresh)).status_code == 401
    login = {"email": member.email, "password": PASSWORD}
    assert (await gateway.http.post("/v1/auth/login", json=login)).status_code == 401

    assert (await patch_user(gateway, owner, member, suspended=False))[0] == 200
    assert (await gateway.http.post("/v1/auth/login", json=login)).status_code == 200
    # Keys work again; sign-ins from before do not.
    assert (await gateway.http.get("/v1/me", headers=key)).status_code == 200
    assert (await gateway.http.get("/v1/me", headers=member.headers)).status_code == 401


async def test_every_change_of_a_member_is_announced_whole(gateway: Gateway) -> None:
    owner = await gateway.register(name="Ada")
    for change in (
        {"time_zone": "Europe/Rome"},
        {"time_zone": "Europe/Rome"},
        {"time_zone": "Asia/Tokyo", "day_start": "04:30"},
        {"name": "Ada L."},
    ):
        reply = await gateway.http.patch("/v1/me", json=change, headers=owner.headers)
        assert reply.status_code == 200
    me = (await gateway.http.get("/v1/me", headers=owner.headers)).json()["user"]
    assert (me["time_zone"], me["day_start"], me["name"]) == ("Asia/Tokyo", "04:30", "Ada L.")

    async def members() -> list[Any]:
        facts = await announced(gateway, owner.org_id)
        found = [fact.member_changed for fact in facts if fact.HasField("member_changed")]
        assert len(found) == 4
        return found

    found = await eventually(members)
    assert [member.revision for member in found] == [1, 2, 3, 4]
    assert {(member.org_id, member.user_id) for member in found} == {(owner.org_id, owner.id)}
    assert [(zone.from_us, zone.time_zone) for zone in found[0].zones] == [(0, "UTC")]
    assert [(zone.from_us, zone.time_zone) for zone in found[1].zones] == [(0, "Europe/Rome")]
    (home, away) = found[3].zones
    assert (home.from_us, home.time_zone) == (0, "Europe/Rome")
    assert away.time_zone == "Asia/Tokyo"
    assert away.from_us > 1_700_000_000_000_000
    assert found[3].day_start_minutes == 270
    assert found[3].name == "Ada L."
    assert found[3].is_active


async def test_erasure_needs_the_password_and_leaves_nothing_but_the_audit_log(
    gateway: Gateway,
) -> None:
    owner = await gateway.register()
    member = await gateway.join(owner, "member")
    await gateway.key(member, "read")
    wrong = await gateway.http.request(
        "DELETE", "/v1/me", json={"password": "wrong"}, headers=member.headers
    )
    assert wrong.status_code == 401
    erased = await gateway.http.request(
        "DELETE", "/v1/me", json={"password": PASSWORD}, headers=member.headers
    )
    assert erased.status_code == 204
    assert (await gateway.http.get("/v1/me", headers=member.headers)).status_code == 401
    for table in ("users", "memberships", "api_keys", "sign_ins", "devices"):
        rows = await gateway.query(f"SELECT FROM {table} WHERE user_id = $1", member.id)
        assert rows == [], table
    assert await gateway.query("SELECT FROM invitations WHERE email = $1", member.email) == []
    audit = (await gateway.http.get("/v1/audit", headers=owner.headers)).json()["items"]
    assert audit[0]["action"] == "person.erased"
    assert member.email not in str(audit)

    async def erasure() -> bool:
        facts = await announced(gateway, owner.org_id)
        return any(fact.user_erased.user_id == member.id for fact in facts)

    await eventually(erasure)


async def test_who_is_alone_takes_the_organization_along(gateway: Gateway) -> None:
    owner = await gateway.register()
    erased = await gateway.http.request(
        "DELETE", "/v1/me", json={"password": PASSWORD}, headers=owner.headers
    )
    assert erased.status_code == 204
    assert await gateway.query("SELECT FROM organizations WHERE org_id = $1", owner.org_id) == []
    again = await gateway.register(email=owner.email)
    assert again.id != owner.id


async def test_the_audit_log_can_not_be_rewritten(gateway: Gateway) -> None:
    await gateway.register()
    for statement in ("DELETE FROM audit_log", "UPDATE audit_log SET action = ''"):
        with pytest.raises(Exception, match="append-only"):
            await gateway.query(statement)


async def test_lists_come_in_pages_that_never_overlap(gateway: Gateway) -> None:
    owner = await gateway.register()
    expected = {owner.id} | {(await gateway.join(owner, "member")).id for _ in range(4)}
    seen: list[str] = []
    cursor = ""
    for _ in range(10):
        query = f"/v1/users?limit=2&cursor={cursor}"
        page = (await gateway.http.get(query, headers=owner.headers)).json()
        seen += [user["id"] for user in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(expected)
    for path in ("/v1/audit", "/v1/invitations", "/v1/api-keys", "/v1/devices"):
        page = (await gateway.http.get(f"{path}?limit=1", headers=owner.headers)).json()
        assert set(page) == {"items", "next_cursor"}
        assert len(page["items"]) <= 1
    bad = await gateway.http.get("/v1/users?cursor=nonsense", headers=owner.headers)
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["field"] == "cursor"


async def test_a_guest_leaves_when_their_time_is_over(gateway: Gateway) -> None:
    owner = await gateway.register()
    guest = await gateway.join(owner, "guest", guest_days=1)
    me = (await gateway.http.get("/v1/me", headers=guest.headers)).json()["user"]
    assert me["expires_at"] is not None
    await gateway.query(
        "UPDATE memberships SET expires_at = now() - interval '1 second' WHERE user_id = $1",
        guest.id,
    )
    login = {"email": guest.email, "password": PASSWORD}
    assert (await gateway.http.post("/v1/auth/login", json=login)).status_code == 401
