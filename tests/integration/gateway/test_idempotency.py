"""Idempotency-Key: the same write twice has one effect and one answer."""

import asyncio

import pytest

from tests.integration.gateway.conftest import Gateway, Person

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

KEY = {"name": "k", "scopes": ["read"]}


def keyed(person: Person, key: str) -> dict[str, str]:
    return person.headers | {"idempotency-key": key}


async def test_a_repeated_write_gets_the_first_answer(gateway: Gateway) -> None:
    owner = await gateway.register()
    first = await gateway.http.post("/v1/api-keys", json=KEY, headers=keyed(owner, "one"))
    again = await gateway.http.post("/v1/api-keys", json=KEY, headers=keyed(owner, "one"))
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    listed = (await gateway.http.get("/v1/api-keys", headers=owner.headers)).json()["items"]
    assert len(listed) == 1
    # What is kept of the answer gives the secret in it to nobody.
    rows = await gateway.query("SELECT answer FROM idempotency_keys WHERE user_id = $1", owner.id)
    assert first.json()["key"].encode() not in rows[0]["answer"]


async def test_a_key_is_for_one_request_of_one_credential(gateway: Gateway) -> None:
    owner, other = await gateway.register(), await gateway.register()
    first = await gateway.http.post("/v1/api-keys", json=KEY, headers=keyed(owner, "two"))
    changed = KEY | {"name": "other"}
    reused = await gateway.http.post("/v1/api-keys", json=changed, headers=keyed(owner, "two"))
    assert reused.status_code == 422
    assert reused.json()["errors"][0]["field"] == "Idempotency-Key"
    others = await gateway.http.post("/v1/api-keys", json=KEY, headers=keyed(other, "two"))
    assert others.status_code == 201
    assert others.json()["id"] != first.json()["id"]


async def test_what_failed_may_be_tried_again(gateway: Gateway) -> None:
    owner = await gateway.register()
    wrong = await gateway.http.post(
        "/v1/api-keys", json=KEY | {"scopes": []}, headers=keyed(owner, "three")
    )
    assert wrong.status_code == 422
    right = await gateway.http.post("/v1/api-keys", json=KEY, headers=keyed(owner, "three"))
    assert right.status_code == 201


async def test_of_many_at_once_one_is_done(gateway: Gateway) -> None:
    owner = await gateway.register()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                gateway.http.post("/v1/api-keys", json=KEY, headers=keyed(owner, "four"))
            )
            for _ in range(8)
        ]
    statuses = {task.result().status_code for task in tasks}
    assert statuses <= {201, 409}
    listed = (await gateway.http.get("/v1/api-keys", headers=owner.headers)).json()["items"]
    assert len(listed) == 1


async def test_a_key_must_be_printable_and_a_caller_known(gateway: Gateway) -> None:
    owner = await gateway.register()
    bad = await gateway.http.post("/v1/api-keys", json=KEY, headers=keyed(owner, "a b"))
    assert bad.status_code == 422
    nobody = await gateway.http.post("/v1/api-keys", json=KEY, headers={"idempotency-key": "x"})
    assert nobody.status_code == 401
