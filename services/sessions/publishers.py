"""What sessions says on the bus, and the stream it owns."""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from nats.js.api import StreamConfig

from chassis.bus import Bus, partition_of
from chassis.outbox import Transaction
from protos.sessions.v1.announcements_pb2 import TimeChanged
from protos.sessions.v1.sessions_pb2 import Day as DayMessage
from protos.sessions.v1.sessions_pb2 import Session as SessionMessage

SESSIONS_STREAM: Final = "SESSIONS"
_HOURS: Final = 3600.0


async def declare_streams(bus: Bus) -> None:
    """Creates the streams this service owns, or brings them up to date."""
    await bus.ensure_stream(
        StreamConfig(
            name=SESSIONS_STREAM,
            subjects=["sessions.v1.>"],
            max_age=72 * _HOURS,
            max_bytes=4 * 1024 * 1024 * 1024,
            duplicate_window=120,
            allow_atomic=True,
            allow_direct=True,
        )
    )


def announce_time_changed(
    tx: Transaction,
    org_id: UUID,
    user_id: UUID,
    *,
    version: int,
    updated: Iterable[SessionMessage],
    removed: Sequence[UUID],
    days: Iterable[DayMessage],
) -> None:
    """One message per person and commit."""
    message = TimeChanged(
        org_id=str(org_id),
        user_id=str(user_id),
        version=version,
        updated=updated,
        removed=[str(session_id) for session_id in removed],
        days=days,
    )
    subject = f"sessions.v1.{partition_of(user_id)}.{org_id}"
    tx.announce(SESSIONS_STREAM, subject, message)
