"""What time makes necessary."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from chassis import bus, postgres
from chassis.clock import MICROSECONDS, ManualClock, SystemClock
from chassis.identity import load_private_key
from chassis.jobs import JobRun
from chassis.outbox import Outbox
from chassis.settings import PostgresSettings
from services.gateway.accounts.ledger import Ledger
from services.gateway.auth import Authenticator
from services.gateway.jobs import Upkeep
from services.gateway.publishers import ACCOUNTS_STREAM
from services.gateway.tokens import ACCESS_AUDIENCE, TokenMint
from services.gateway.usage import Usage
from tests.integration.gateway.conftest import Gateway

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

RUN = JobRun(run_id="r", scheduled_for_us=0, args={}, org_id="")
DAY_SECONDS = 86_400


@asynccontextmanager
async def upkeep(gateway: Gateway, days_ahead: float) -> AsyncIterator[Upkeep]:
    """The gateway's jobs as they would run some days from now."""
    clock = ManualClock(SystemClock().now_us() + round(days_ahead * DAY_SECONDS * MICROSECONDS))
    settings = PostgresSettings(postgres_dsn=SecretStr(gateway.dsn))
    async with (
        postgres.pool(settings, application="test") as pool,
        bus.connect(gateway.settings, service="gateway") as connected,
    ):
        outbox = Outbox(
            pool=pool, bus=connected, service="gateway", clock=clock, streams=[ACCOUNTS_STREAM]
        )
        key = load_private_key(gateway.settings.token_private_key_file)
        authenticator = Authenticator(
            pool=pool,
            access_tokens=TokenMint(key=key, clock=clock, audience=ACCESS_AUDIENCE, seconds=9),
            usage=Usage(pool=pool, clock=clock),
            clock=clock,
            cache_seconds=5,
        )
        ledger = Ledger(outbox=outbox, authenticator=authenticator, clock=clock)
        yield Upkeep(ledger=ledger, pool=pool, outbox=outbox, clock=clock)


async def test_what_is_over_is_removed_and_what_is_not_stays(gateway: Gateway) -> None:
    owner = await gateway.register()
    headers = owner.headers | {"idempotency-key": "k"}
    made = await gateway.http.post(
        "/v1/api-keys", json={"name": "k", "scopes": ["read"]}, headers=headers
    )
    assert made.status_code == 201
    invite = {"email": "x@example.com", "role": "member"}
    assert (
        await gateway.http.post("/v1/invitations", json=invite, headers=owner.headers)
    ).is_success
    tables = ("sign_ins", "refresh_tokens", "invitations", "idempotency_keys")

    async def counts() -> list[int]:
        found = []
        for table in tables:
            sql = f"SELECT count(*) FROM {table} WHERE org_id = $1"
            found.append((await gateway.query(sql, owner.org_id))[0]["count"])
        return found

    assert await counts() == [1, 1, 1, 1]
    async with upkeep(gateway, 0) as now:
        await now.retention(RUN)
    assert await counts() == [1, 1, 1, 1]
    async with upkeep(gateway, 2) as soon:
        assert (await soon.retention(RUN))["idempotency_keys"] == 1
    assert await counts() == [1, 1, 1, 0]
    async with upkeep(gateway, 100) as later:
        done = await later.retention(RUN)
        assert (await later.retention(RUN))["sign_ins"] == 0
    assert await counts() == [0, 0, 0, 0]
    assert done["sign_ins"] == 1
    members = await gateway.query("SELECT FROM memberships WHERE org_id = $1", owner.org_id)
    assert len(members) == 1


async def test_guests_whose_time_is_over_are_ended_and_announced_once(gateway: Gateway) -> None:
    owner = await gateway.register()
    guest = await gateway.join(owner, "guest", guest_days=1)
    async with upkeep(gateway, 0) as now:
        assert (await now.retention(RUN))["guests_ended"] == 0
    async with upkeep(gateway, 1.5) as later:
        assert (await later.retention(RUN))["guests_ended"] == 1
        assert (await later.retention(RUN))["guests_ended"] == 0
    (row,) = await gateway.query(
        "SELECT status, revision FROM memberships WHERE user_id = $1", guest.id
    )
    assert (row["status"], row["revision"]) == ("suspended", 2)
    audit = (await gateway.http.get("/v1/audit", headers=owner.headers)).json()["items"]
    assert "member.expired" in [entry["action"] for entry in audit]
