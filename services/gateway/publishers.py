"""What the gateway says on the bus, and the stream it owns."""

from typing import Final
from uuid import UUID

from nats.js.api import StreamConfig

from chassis.bus import Bus
from chassis.outbox import Transaction
from protos.accounts.v1.announcements_pb2 import (
    AccountsAnnouncement,
    CredentialRevoked,
    MemberChanged,
    UserErased,
)
from protos.accounts.v1.announcements_pb2 import ZonePeriod as ZonePeriodMessage
from services.gateway.domain import Member, settled_zones

ACCOUNTS_STREAM: Final = "ACCOUNTS"
_HOURS: Final = 3600.0


async def declare_streams(bus: Bus) -> None:
    """Creates the streams this service owns, or brings them up to date."""
    await bus.ensure_stream(
        StreamConfig(
            name=ACCOUNTS_STREAM,
            subjects=["accounts.v1.>"],
            max_age=72 * _HOURS,
            max_bytes=1024 * 1024 * 1024,
            duplicate_window=120,
            allow_atomic=True,
            allow_direct=True,
        )
    )


def member_changed(tx: Transaction, member: Member) -> None:
    """The whole membership as it is after this transaction."""
    fact = MemberChanged(
        org_id=str(member.org_id),
        user_id=str(member.user_id),
        revision=member.revision,
        name=member.name,
        role=member.role,
        is_active=member.is_active,
        zones=[
            ZonePeriodMessage(from_us=period.from_us, time_zone=period.time_zone)
            for period in settled_zones(member.zones)
        ],
        day_start_minutes=member.day_start_minutes,
    )
    _announce(tx, member.org_id, AccountsAnnouncement(member_changed=fact))


def user_erased(tx: Transaction, org_id: UUID, user_id: UUID) -> None:
    """Every store is to forget the person."""
    fact = UserErased(org_id=str(org_id), user_id=str(user_id))
    _announce(tx, org_id, AccountsAnnouncement(user_erased=fact))


def credential_revoked(
    tx: Transaction, org_id: UUID, user_id: UUID, credential_id: UUID | None
) -> None:
    """Holders of one credential are cut off; None means all of the person's."""
    fact = CredentialRevoked(
        org_id=str(org_id),
        user_id=str(user_id),
        credential_id=str(credential_id) if credential_id else "",
    )
    _announce(tx, org_id, AccountsAnnouncement(credential_revoked=fact))


def _announce(tx: Transaction, org_id: UUID, announcement: AccountsAnnouncement) -> None:
    tx.announce(ACCOUNTS_STREAM, f"accounts.v1.{org_id}", announcement)
