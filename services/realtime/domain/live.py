"""What a fact becomes on a channel. The structs are the JSON objects that clients see as `data`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from chassis.clock import to_datetime
from services.realtime.domain.channels import ORG, Channel, user_channel
from services.realtime.domain.presence import Presence


class LiveEvent(NamedTuple):
    """One message for one channel. `org_id` is `all` for orders to every gateway."""

    org_id: UUID | str
    channel: Channel
    event: str
    data: msgspec.Struct


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the public interface shows it; what is unknown is null."""

    id: str
    user_id: str
    kind: str
    start: datetime
    end: datetime
    active_seconds: float
    category: str | None
    app: str | None
    domain: str | None
    project: str | None
    apps: Sequence[str]
    contexts: Sequence[str]
    context_switches: int
    interruptions: int
    devices: Sequence[str]
    version: int


class SessionRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is no more."""

    id: str
    user_id: str
    version: int


class DayView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The totals of a local day. `reload`: more changed on it than is listed, fetch it again."""

    user_id: str
    date: str
    active_seconds: float
    idle_seconds: float
    session_count: int
    version: int
    reload: bool = False


class Reload(msgspec.Struct, frozen=True, kw_only=True):
    """So much of a person's time changed that a list would help nobody: fetch what is shown."""

    user_id: str
    date: None = None
    reload: bool = True


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a job as the public interface shows it."""

    id: str
    schedule_id: str | None
    job: str
    state: str
    attempt: int
    scheduled_for: datetime
    progress: float


class PresenceView(msgspec.Struct, frozen=True, kw_only=True):
    """The presence of a person; of two, the one with the later `since` holds."""

    user_id: str
    state: str
    connections: int
    since: datetime


class PresenceReload(msgspec.Struct, frozen=True, kw_only=True):
    """The store of leases was lost, so leaves may have gone unsaid: fetch the list again."""

    reload: bool = True


class Disconnect(msgspec.Struct, frozen=True, kw_only=True):
    """Order to gateways; `credential_id` None means every credential of the person."""

    user_id: str
    credential_id: str | None
    reason: str


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """Order to gateways: from now on this role decides what the person may watch."""

    user_id: str
    role: str
    revision: int


class EpochChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Order to gateways: the stream was made anew, earlier positions mean nothing."""

    epoch: str


class TimeChange(NamedTuple):
    """What changed for one person in one commit."""

    org_id: UUID
    user_id: UUID
    version: int
    updated: Sequence[SessionView]
    removed: Sequence[str]
    days: Sequence[DayView]


# A changed rule re-derives months at once; beyond these one hint serves a client better.
MAX_SESSIONS_LISTED: Final = 50
MAX_DAYS_LISTED: Final = 92


def time_events(change: TimeChange) -> list[LiveEvent]:
    """What the person hears: sessions, removals, days, each in the order of the commit."""
    user = str(change.user_id)
    is_much = len(change.updated) + len(change.removed) > MAX_SESSIONS_LISTED
    said: list[tuple[str, msgspec.Struct]] = []
    if not is_much:
        said += [("session.updated", session) for session in change.updated]
        said += [
            ("session.removed", SessionRemoved(id=gone, user_id=user, version=change.version))
            for gone in change.removed
        ]
    if len(change.days) > MAX_DAYS_LISTED or (is_much and not change.days):
        said.append(("day.updated", Reload(user_id=user)))
    else:
        said += [
            ("day.updated", msgspec.structs.replace(day, reload=is_much)) for day in change.days
        ]
    channel = user_channel(change.user_id)
    return [LiveEvent(change.org_id, channel, event, data) for event, data in said]


def presence_events(org_id: UUID, presence: Presence) -> list[LiveEvent]:
    """What managers and the person's own devices hear."""
    view = PresenceView(
        user_id=str(presence.user_id),
        state=presence.state,
        connections=presence.connections,
        since=to_datetime(presence.since_us),
    )
    channels = (ORG, user_channel(presence.user_id))
    return [LiveEvent(org_id, channel, "presence.changed", view) for channel in channels]


class Outgoing(NamedTuple):
    """A message on its way. The same `message_id` again within two minutes is dropped."""

    event: LiveEvent
    message_id: str
    traceparent: str


def for_managers(outgoing: Iterable[Outgoing]) -> list[Outgoing]:
    """The days among a batch once more for `org`: of each person and date only the newest."""
    newest: dict[tuple[UUID | str, str, str], Outgoing] = {}
    for event, message_id, traceparent in outgoing:
        if isinstance(event.data, DayView | Reload):
            key = (event.org_id, event.data.user_id, event.data.date or "")
            copy = Outgoing(event._replace(channel=ORG), f"{message_id}:org", traceparent)
            if key in newest and _asks_reload(newest[key]) and isinstance(event.data, DayView):
                # A hint must survive the newer totals that replace it.
                data = msgspec.structs.replace(event.data, reload=True)
                copy = copy._replace(event=copy.event._replace(data=data))
            newest.pop(key, None)
            newest[key] = copy
    return list(newest.values())


def _asks_reload(outgoing: Outgoing) -> bool:
    return isinstance(outgoing.event.data, DayView | Reload) and outgoing.event.data.reload
