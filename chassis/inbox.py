"""Each message takes effect once: its id is written in the transaction of the effect (ADR 0002)."""

from collections.abc import Sequence
from typing import Final

from chassis import telemetry
from chassis.postgres import Connection
from chassis.subscription import Delivery

# Ids are claimed in sorted order, so that two replicas never wait for one another in a circle.
CLAIM_MESSAGES: Final = """
INSERT INTO inbox (consumer, message_id)
SELECT $1, message_id FROM unnest($2::text[]) AS message_id ORDER BY message_id
ON CONFLICT ON CONSTRAINT inbox_pkey DO NOTHING
RETURNING message_id
"""

IS_KNOWN: Final = """
SELECT EXISTS (SELECT FROM inbox WHERE consumer = $1 AND message_id = $2)
"""

# Nothing is redelivered after a stream's 72 h, nor refilled after the outbox's; a week is safe.
FORGET_MESSAGES: Final = """
DELETE FROM inbox WHERE processed_at < now() - make_interval(days => $1)
"""

_repeats = telemetry.meter.create_counter("timeloom.consumer.repeats", "{message}")


async def claim(conn: Connection, consumer: str, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """The deliveries that have not taken effect yet, in the order given; call inside a transaction."""
    ids = [delivery.message_id for delivery in deliveries]
    rows = await conn.fetch(CLAIM_MESSAGES, consumer, ids)
    fresh = {row["message_id"] for row in rows}
    taken = []
    for delivery in deliveries:
        if delivery.message_id in fresh:
            # The same id twice in one batch counts once.
            fresh.discard(delivery.message_id)
            taken.append(delivery)
    if len(taken) < len(deliveries):
        _repeats.add(len(deliveries) - len(taken), {"timeloom.consumer": consumer})
    return taken


async def is_known(conn: Connection, consumer: str, delivery: Delivery) -> bool:
    """Whether the delivery took effect before; for work that happens outside a transaction."""
    known: bool = await conn.fetchval(IS_KNOWN, consumer, delivery.message_id)
    return known


async def forget(conn: Connection, *, days: int) -> int:
    """Removes ids older than `days`; the number removed."""
    status = await conn.execute(FORGET_MESSAGES, days)
    return int(status.rpartition(" ")[2])
