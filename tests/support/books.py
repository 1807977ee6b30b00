"""Comparing the books: what agents were promised, what ingest kept, what sessions made of it."""

from uuid import UUID

import asyncpg

from services.sessions.domain import Block, Rules, derive, roll_up
from services.sessions.domain.categories import Categorizer
from services.sessions.domain.starter import STARTER_RULES
from services.sessions.messages import date_of, day_message
from services.sessions.store import activity, blocks, days, members
from services.sessions.store.blocks import Window
from tests.support.eventually import eventually
from tests.support.servers import Suite

Identity = tuple[UUID, UUID]
FOREVER = 1 << 60


async def kept_by_ingest(suite: Suite, org_id: str) -> set[Identity]:
    """Device and identity of every event that ingest has of an organization."""
    return await _identities(
        suite.dsn("ingest"),
        "SELECT device_id, event_id FROM events WHERE org_id = $1 AND removed_at IS NULL",
        org_id,
    )


async def known_to_sessions(suite: Suite, org_id: str) -> set[Identity]:
    """The same, of what sessions heard."""
    return await _identities(
        suite.dsn("sessions"),
        "SELECT device_id, event_id FROM activity WHERE org_id = $1 AND flags & 16 = 0",
        org_id,
    )


async def _identities(dsn: str, query: str, org_id: str) -> set[Identity]:
    conn = await asyncpg.connect(dsn, ssl=False)
    try:
        return {(row[0], row[1]) for row in await conn.fetch(query, UUID(org_id))}
    finally:
        await conn.close()


async def wait_until_sessions_know_all(suite: Suite, org_id: str, *, within: float = 60) -> None:
    """Returns when sessions has heard of every event that ingest kept."""

    async def caught_up() -> bool:
        kept = await kept_by_ingest(suite, org_id)
        missing = kept - await known_to_sessions(suite, org_id)
        assert not missing, f"{len(missing)} of {len(kept)} events did not arrive"
        return True

    await eventually(caught_up, within=within, every=0.25)


async def assert_books_balance(suite: Suite, org_id: str, user_id: str) -> list[Block]:
    """Stored blocks, sessions and days equal one batch derivation; returns the blocks."""
    person = (UUID(org_id), UUID(user_id))
    conn = await asyncpg.connect(suite.dsn("sessions"), ssl=False)
    try:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            [evidence] = await activity.load(conn, [(person, 0, FOREVER)])
            batch = derive(person[1], evidence, Rules(), Categorizer(STARTER_RULES))
            [stored] = await blocks.load(conn, [Window(person, 0, FOREVER)])
            assert stored == batch
            zones = (await members.zones_of(conn, [person]))[person]
            dates = await days.list_dates(conn, person)
            kept = await days.load(conn, person, dates[0], dates[-1]) if dates else {}
    finally:
        await conn.close()
    for message in kept.values():
        fresh = day_message(roll_up(date_of(message), batch, zones), message.version)
        assert message == fresh, message.date
    total = sum(session.active_us for block in batch for session in block.sessions)
    assert sum(message.active_us for message in kept.values()) == total
    return stored
