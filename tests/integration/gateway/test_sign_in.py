"""Registering, signing in, rotating and signing out, over HTTP."""

import pytest

from tests.integration.gateway.conftest import PASSWORD, Gateway, person_of

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


async def test_registering_makes_an_organization_and_its_owner(gateway: Gateway) -> None:
    owner = await gateway.register(name="Ada", organization_name="Engines")
    me = (await gateway.http.get("/v1/me", headers=owner.headers)).json()
    assert me["user"]["name"] == "Ada"
    assert me["user"]["role"] == "owner"
    assert me["organization"] == {"id": owner.org_id, "name": "Engines"}


async def test_an_address_registers_once_in_whatever_letters(gateway: Gateway) -> None:
    owner = await gateway.register()
    again = await gateway.http.post(
        "/v1/auth/register",
        json={
            "email": owner.email.upper(),
            "password": PASSWORD,
            "name": "Twin",
            "organization_name": "Other",
        },
    )
    assert again.status_code == 409
    assert again.json()["type"] == "urn:timeloom:problem:conflict"


async def test_signing_in_needs_the_right_password(gateway: Gateway) -> None:
    owner = await gateway.register()
    good = {"email": owner.email.swapcase(), "password": PASSWORD}
    reply = await gateway.http.post("/v1/auth/login", json=good)
    assert reply.status_code == 200
    assert person_of(reply.json()).id == owner.id
    wrong = await gateway.http.post("/v1/auth/login", json=good | {"password": "wrong"})
    unknown = await gateway.http.post("/v1/auth/login", json=good | {"email": "no@example.com"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["detail"] == unknown.json()["detail"]
    assert "bearer" in wrong.headers["www-authenticate"].lower()


async def refresh(gateway: Gateway, token: str) -> tuple[int, dict[str, str]]:
    reply = await gateway.http.post("/v1/auth/refresh", json={"refresh_token": token})
    return reply.status_code, reply.json()


async def test_a_refresh_token_is_good_once_and_its_reuse_ends_the_sign_in(
    gateway: Gateway,
) -> None:
    owner = await gateway.register()
    status, second = await refresh(gateway, owner.refresh_token)
    assert status == 200
    headers = {"authorization": f"Bearer {second['access_token']}"}
    assert (await gateway.http.get("/v1/me", headers=headers)).status_code == 200

    stolen, _ = await refresh(gateway, owner.refresh_token)
    assert stolen == 401
    # The thief's try also ends what the holder has: both have to sign in again.
    assert (await refresh(gateway, second["refresh_token"]))[0] == 401
    for access_token in (owner.access_token, second["access_token"]):
        headers = {"authorization": f"Bearer {access_token}"}
        assert (await gateway.http.get("/v1/me", headers=headers)).status_code == 401


async def test_nonsense_refresh_tokens_are_refused_and_end_nothing(gateway: Gateway) -> None:
    owner = await gateway.register()
    head, _, secret = owner.refresh_token.rpartition("_")
    forged = f"{head}_{'A' * len(secret)}"
    for token in ("", "x", "tlr_", forged, owner.access_token):
        assert (await refresh(gateway, token))[0] == 401
    assert (await refresh(gateway, owner.refresh_token))[0] == 200


async def test_signing_out_ends_this_sign_in_at_once_and_no_other(gateway: Gateway) -> None:
    owner = await gateway.register()
    login = {"email": owner.email, "password": PASSWORD}
    other = person_of((await gateway.http.post("/v1/auth/login", json=login)).json())
    reply = await gateway.http.post("/v1/auth/logout", headers=owner.headers)
    assert reply.status_code == 204
    assert (await gateway.http.get("/v1/me", headers=owner.headers)).status_code == 401
    assert (await refresh(gateway, owner.refresh_token))[0] == 401
    assert (await gateway.http.get("/v1/me", headers=other.headers)).status_code == 200

    everywhere = await gateway.http.post(
        "/v1/auth/logout", json={"everywhere": True}, headers=other.headers
    )
    assert everywhere.status_code == 204
    assert (await refresh(gateway, other.refresh_token))[0] == 401
