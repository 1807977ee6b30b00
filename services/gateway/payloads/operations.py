"""Schedules, runs and dead letters as the public interface says them."""

from base64 import b64encode
from typing import Annotated, Self
from uuid import UUID

import msgspec

from protos.scheduler.v1 import scheduler_pb2 as pb
from services.gateway.payloads.text import Reason
from services.gateway.payloads.times import instant, instant_or_none

Ids = Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=200)]


class TriggerRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`args` replace the schedule's own."""

    args: dict[str, object] | None = None


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`reason` is shown to others."""

    reason: Reason = ""


class ReplayRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`dry_run` only says what would happen."""

    ids: Ids
    dry_run: bool = False


class DiscardRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Letters that are not worth replaying."""

    ids: Ids


class ScheduleReply(msgspec.Struct, frozen=True, kw_only=True):
    """A plan to run a job."""

    id: str
    name: str
    job: str
    kind: str
    expression: str
    time_zone: str
    paused: bool
    pause_reason: str | None
    next_fire_at: str | None
    missed_count: int
    skipped_count: int
    revision: int

    @classmethod
    def of(cls, schedule: pb.Schedule) -> Self:
        """From the service."""
        return cls(
            id=schedule.id,
            name=schedule.name,
            job=schedule.job,
            kind=schedule.kind,
            expression=schedule.expression,
            time_zone=schedule.time_zone,
            paused=schedule.is_paused,
            pause_reason=schedule.pause_reason or None,
            next_fire_at=instant_or_none(schedule.next_fire_us),
            missed_count=schedule.missed_count,
            skipped_count=schedule.skipped_count,
            revision=schedule.revision,
        )


class AttemptReply(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a run; `error` is null unless it failed."""

    number: int
    started_at: str | None
    finished_at: str | None
    worker: str | None
    error_kind: str | None
    error: str | None


class RunReply(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a job with every attempt; `result` is null until it succeeds."""

    id: str
    schedule_id: str | None
    job: str
    state: str
    scheduled_for: str
    attempts: list[AttemptReply]
    progress: float
    result: msgspec.Raw

    @classmethod
    def of(cls, run: pb.Run) -> Self:
        """From the service."""
        return cls(
            id=run.id,
            schedule_id=run.schedule_id or None,
            job=run.job,
            state=run.state,
            scheduled_for=instant(run.scheduled_for_us),
            attempts=[
                AttemptReply(
                    number=attempt.number,
                    started_at=instant_or_none(attempt.started_us),
                    finished_at=instant_or_none(attempt.finished_us),
                    worker=attempt.worker or None,
                    error_kind=attempt.error_kind or None,
                    error=attempt.error_message or None,
                )
                for attempt in run.attempts
            ],
            progress=run.progress,
            result=msgspec.Raw(run.result_json.encode() or b"null"),
        )


class StatusReply(msgspec.Struct, frozen=True, kw_only=True):
    """How the scheduler is doing."""

    replicas: int
    lag_seconds: float
    queued: int
    running: int
    next_fires: list[ScheduleReply]

    @classmethod
    def of(cls, status: pb.GetStatusResponse) -> Self:
        """From the service."""
        return cls(
            replicas=status.replicas,
            lag_seconds=status.lag_seconds,
            queued=status.queued,
            running=status.running,
            next_fires=[ScheduleReply.of(schedule) for schedule in status.next_fires],
        )


class DeadLetterReply(msgspec.Struct, frozen=True, kw_only=True):
    """A message that left processing by failure; `payload` is base64, null in lists."""

    id: str
    consumer: str
    subject: str
    message_id: str
    cause: str
    error: str
    deliveries: int
    state: str
    died_at: str
    replays: int
    fingerprint: str
    payload: str | None

    @classmethod
    def of(cls, letter: pb.DeadLetter, *, has_payload: bool = False) -> Self:
        """From the service."""
        return cls(
            id=letter.id,
            consumer=letter.consumer,
            subject=letter.subject,
            message_id=letter.message_id,
            cause=letter.cause,
            error=letter.error,
            deliveries=letter.deliveries,
            state=letter.state,
            died_at=instant(letter.died_us),
            replays=letter.replays,
            fingerprint=letter.fingerprint,
            payload=b64encode(letter.payload).decode() if has_payload else None,
        )


class ReplayedReply(msgspec.Struct, frozen=True, kw_only=True):
    """Ids that were, or would be, published again, and ids that are unknown or not open."""

    replayed: list[str]
    skipped: list[str]


class DiscardedReply(msgspec.Struct, frozen=True, kw_only=True):
    """Ids that were discarded."""

    discarded: list[str]
