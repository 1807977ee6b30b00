"""What realtime listens to, and what each fact becomes on the live channels.

This service has no database, so no inbox. A fact that comes twice is published under the same
message ids, which LIVE drops for two minutes; a later repeat reaches clients and is harmless,
because every message says what *is* and carries an id and a version.
"""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.clock import MICROSECONDS, to_datetime
from chassis.subscription import Delivery, Subscription
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement
from protos.realtime.v1.announcements_pb2 import PresenceChanged
from protos.scheduler.v1.announcements_pb2 import RunChanged
from protos.sessions.v1.announcements_pb2 import TimeChanged
from protos.sessions.v1.sessions_pb2 import Day, Session
from services.realtime.domain.channels import CONTROL, JOBS
from services.realtime.domain.live import (
    DayView,
    Disconnect,
    LiveEvent,
    MemberView,
    Outgoing,
    RunView,
    SessionView,
    TimeChange,
    for_managers,
    presence_events,
    time_events,
)
from services.realtime.domain.presence import Presence
from services.realtime.publishers import LivePublisher

# A session may have touched hundreds of apps; a card on a screen shows a few.
MAX_NAMES: Final = 50

Translate = Callable[[Delivery], list[LiveEvent]]


class Fanout:
    """Turns announcements into live messages."""

    def __init__(self, live: LivePublisher) -> None:
        self._live = live

    def subscriptions(self) -> list[Subscription]:
        """One durable consumer per stream, shared by all replicas."""
        return [
            Subscription(
                stream=stream,
                consumer=f"realtime-{stream.lower()}-all",
                subjects=(subject,),
                handler=handler,
            )
            for stream, subject, handler in (
                ("SESSIONS", "sessions.v1.>", self.on_sessions),
                ("JOBS", "jobs.v1.>", self.on_jobs),
                ("ACCOUNTS", "accounts.v1.>", self.on_accounts),
                ("PRESENCE", "presence.v1.>", self.on_presence),
            )
        ]

    async def on_sessions(self, deliveries: Sequence[Delivery]) -> None:
        outgoing = _fan_out(deliveries, _time_changed)
        await self._live.publish([*outgoing, *for_managers(outgoing)])

    async def on_jobs(self, deliveries: Sequence[Delivery]) -> None:
        await self._live.publish(_fan_out(deliveries, _run_changed))

    async def on_accounts(self, deliveries: Sequence[Delivery]) -> None:
        await self._live.publish(_fan_out(deliveries, _account_changed))

    async def on_presence(self, deliveries: Sequence[Delivery]) -> None:
        await self._live.publish(_fan_out(deliveries, _presence_changed))


def _fan_out(deliveries: Sequence[Delivery], translate: Translate) -> list[Outgoing]:
    """Each delivery under a span of its own, so that a trace goes from one fact to its sockets."""
    outgoing = []
    for delivery in deliveries:
        parents = [delivery.traceparent] if delivery.traceparent else []
        with telemetry.span("live fan out", SpanKind.CONSUMER, parents=parents) as span:
            events = translate(delivery)
            span.set_attribute("timeloom.batch.size", len(events))
            parent = telemetry.traceparent()
            outgoing += [
                Outgoing(event, f"{delivery.message_id}:{index}", parent)
                for index, event in enumerate(events)
            ]
    return outgoing


def _time_changed(delivery: Delivery) -> list[LiveEvent]:
    fact = TimeChanged.FromString(delivery.data)
    return time_events(
        TimeChange(
            org_id=UUID(fact.org_id),
            user_id=UUID(fact.user_id),
            version=fact.version,
            updated=[_session(session, fact.version) for session in fact.updated],
            removed=list(fact.removed),
            days=[_day(day, fact.user_id) for day in fact.days],
        )
    )


def _session(session: Session, version: int) -> SessionView:
    return SessionView(
        id=session.id,
        user_id=session.user_id,
        kind=session.kind,
        start=to_datetime(session.start_us),
        end=to_datetime(session.end_us),
        active_seconds=session.active_us / MICROSECONDS,
        category=session.category or None,
        app=session.app or None,
        domain=session.domain or None,
        project=session.project or None,
        apps=session.apps[:MAX_NAMES],
        contexts=session.contexts[:MAX_NAMES],
        context_switches=session.context_switches,
        interruptions=session.interruptions,
        devices=session.devices[:MAX_NAMES],
        version=version,
    )


def _day(day: Day, user_id: str) -> DayView:
    return DayView(
        user_id=user_id,
        date=day.date,
        active_seconds=day.active_us / MICROSECONDS,
        idle_seconds=day.idle_us / MICROSECONDS,
        session_count=day.session_count,
        version=day.version,
    )


def _run_changed(delivery: Delivery) -> list[LiveEvent]:
    run = RunChanged.FromString(delivery.data)
    if not run.org_id:
        # The suite's own upkeep is no tenant's business.
        return []
    view = RunView(
        id=run.run_id,
        schedule_id=run.schedule_id or None,
        job=run.job,
        state=run.state,
        attempt=run.attempt,
        scheduled_for=to_datetime(run.scheduled_for_us),
        progress=run.progress,
    )
    return [LiveEvent(UUID(run.org_id), JOBS, "run.updated", view)]


def _account_changed(delivery: Delivery) -> list[LiveEvent]:
    """Orders to the gateways: who is cut off, and whose role is another one now."""
    announcement = AccountsAnnouncement.FromString(delivery.data)
    match announcement.WhichOneof("fact"):
        case "member_changed":
            member = announcement.member_changed
            if member.is_active:
                view = MemberView(
                    user_id=member.user_id, role=member.role, revision=member.revision
                )
                return [LiveEvent(UUID(member.org_id), CONTROL, "member.changed", view)]
            return _disconnect(member.org_id, member.user_id, "suspended")
        case "user_erased":
            erased = announcement.user_erased
            return _disconnect(erased.org_id, erased.user_id, "erased")
        case "credential_revoked":
            gone = announcement.credential_revoked
            return _disconnect(gone.org_id, gone.user_id, "revoked", gone.credential_id)
        case _:
            # A fact of a later version.
            return []


def _disconnect(org_id: str, user_id: str, reason: str, credential_id: str = "") -> list[LiveEvent]:
    order = Disconnect(user_id=user_id, credential_id=credential_id or None, reason=reason)
    return [LiveEvent(UUID(org_id), CONTROL, "disconnect", order)]


def _presence_changed(delivery: Delivery) -> list[LiveEvent]:
    fact = PresenceChanged.FromString(delivery.data)
    presence = Presence(
        user_id=UUID(fact.presence.user_id),
        state=fact.presence.state,
        connections=fact.presence.connections,
        since_us=fact.presence.since_us,
    )
    return presence_events(UUID(fact.org_id), presence)
