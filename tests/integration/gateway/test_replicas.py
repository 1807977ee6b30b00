"""Several gateways on one database: what one changes, the others know at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import nats
import pytest
from pydantic import SecretStr

from chassis import bus, postgres
from chassis.clock import SystemClock
from chassis.identity import load_private_key
from chassis.settings import PostgresSettings
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement
from services.gateway.auth import Authenticator
from services.gateway.consumers import AccountsWatch
from services.gateway.tokens import ACCESS_AUDIENCE, TokenMint
from services.gateway.usage import Usage
from tests.integration.gateway.conftest import Gateway, running
from tests.support.eventually import eventually
from tests.support.servers import Stores

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


async def test_a_revoked_credential_is_refused_by_every_replica(
    gateway: Gateway, servers: Stores
) -> None:
    # Only announcements can explain a refusal here: the cache alone would hold for an hour.
    async with running(servers, gateway.dsn, credential_cache_seconds=3600) as other:
        owner = await gateway.register()
        member = await gateway.join(owner, "member")
        key = {"x-api-key": await gateway.key(member, "read")}
        for headers in (owner.headers, member.headers, key):
            assert (await other.http.get("/v1/me", headers=headers)).status_code == 200

        change = {"suspended": True}
        url = f"/v1/users/{member.id}"
        reply = await gateway.http.patch(url, json=change, headers=owner.headers)
        assert reply.status_code == 200

        async def refused() -> bool:
            replies = [
                await other.http.get("/v1/me", headers=headers) for headers in (member.headers, key)
            ]
            return [reply.status_code for reply in replies] == [401, 401]

        await eventually(refused)
        assert (await other.http.get("/v1/me", headers=owner.headers)).status_code == 200
        assert (await gateway.http.post("/v1/auth/logout", headers=owner.headers)).is_success

        async def signed_out() -> bool:
            reply = await other.http.get("/v1/me", headers=owner.headers)
            return reply.status_code == 401

        await eventually(signed_out)


@asynccontextmanager
async def authenticator(gateway: Gateway) -> AsyncIterator[Authenticator]:
    """One that forgets nothing by itself."""
    clock = SystemClock()
    settings = PostgresSettings(postgres_dsn=SecretStr(gateway.dsn))
    async with postgres.pool(settings, application="test") as pool:
        key = load_private_key(gateway.settings.token_private_key_file)
        yield Authenticator(
            pool=pool,
            access_tokens=TokenMint(key=key, clock=clock, audience=ACCESS_AUDIENCE, seconds=9),
            usage=Usage(pool=pool, clock=clock),
            clock=clock,
            cache_seconds=3600,
        )


async def test_what_was_announced_during_a_look_up_is_not_remembered_wrongly(
    gateway: Gateway,
) -> None:
    owner = await gateway.register()
    key = await gateway.key(owner, "read")
    lock = await asyncpg.connect(gateway.dsn, ssl=False)
    async with authenticator(gateway) as auth:
        held = lock.transaction()
        await held.start()
        await lock.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        looking = asyncio.create_task(auth.authenticate(key))

        async def is_waiting() -> bool:
            waiting = await gateway.query(
                "SELECT FROM pg_locks WHERE NOT granted AND relation = 'api_keys'::regclass"
            )
            return len(waiting) > 0

        await eventually(is_waiting)
        auth.forget(UUID(owner.org_id), UUID(owner.id))
        await held.rollback()
        assert (await looking).principal.user_id == UUID(owner.id)
        await lock.execute("UPDATE api_keys SET revoked_at = now() WHERE user_id = $1", owner.id)
        with pytest.raises(Exception, match="credential"):
            await auth.authenticate(key)
    await lock.close()


class Listener:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.facts: list[AccountsAnnouncement] = []
        self.gaps = 0

    def heard(self, fact: AccountsAnnouncement) -> None:
        self.facts.append(fact)

    def missed(self) -> None:
        self.gaps += 1


async def test_a_watch_that_lost_its_consumer_says_so_and_goes_on(
    gateway: Gateway, servers: Stores
) -> None:
    listener, stopping = Listener(), asyncio.Event()
    async with (
        bus.connect(gateway.settings, service="gateway") as connected,
        asyncio.TaskGroup() as group,
    ):
        clock = SystemClock()
        watch = AccountsWatch(bus=connected, listeners=[listener], clock=clock)
        group.create_task(watch.run(stopping))
        await eventually(lambda: listener.gaps == 1)
        owner = await gateway.register()
        await eventually(lambda: listener.facts)
        assert listener.facts[-1].member_changed.org_id == owner.org_id

        admin = await nats.connect(**servers.nats())
        jetstream = admin.jetstream()
        for consumer in await jetstream.consumers_info("ACCOUNTS"):
            if consumer.name.startswith("gateway-watch"):
                await jetstream.delete_consumer("ACCOUNTS", consumer.name)
        await admin.close()
        await eventually(lambda: listener.gaps == 2, within=10)
        again = await gateway.register()
        await eventually(lambda: listener.facts[-1].member_changed.org_id == again.org_id)
        stopping.set()
