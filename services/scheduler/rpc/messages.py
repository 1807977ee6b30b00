"""Values of the domain as messages of the contract."""

from collections.abc import Iterable

from protos.scheduler.v1 import scheduler_pb2 as pb
from services.scheduler.domain.letters import REPLAYED, Letter
from services.scheduler.domain.plans import SUITE, Schedule
from services.scheduler.domain.runs import Attempt, Run


def schedule_message(schedule: Schedule) -> pb.Schedule:
    """The contract's schedule."""
    who = f"{schedule.paused_by}: " if schedule.paused_by else ""
    return pb.Schedule(
        id=str(schedule.id),
        name=schedule.name,
        job=schedule.job,
        kind=schedule.plan.kind,
        expression=schedule.plan.expression,
        time_zone=schedule.plan.time_zone,
        is_paused=schedule.is_paused,
        pause_reason=f"{who}{schedule.pause_reason}" if schedule.is_paused else "",
        next_fire_us=0 if schedule.is_paused else schedule.fire_at_us or 0,
        missed_count=schedule.missed_count,
        skipped_count=schedule.skipped_count,
        revision=schedule.revision,
    )


def run_message(run: Run, attempts: Iterable[Attempt], *, may_read: bool) -> pb.Run:
    """The contract's run; without what it said for those who may not read that."""
    return pb.Run(
        id=str(run.id),
        schedule_id=str(run.schedule_id or ""),
        job=run.job,
        state=run.state,
        scheduled_for_us=run.scheduled_for_us,
        attempts=[_attempt_message(one, may_read=may_read) for one in attempts],
        progress=run.progress,
        result_json=run.result if may_read else "",
    )


def _attempt_message(attempt: Attempt, *, may_read: bool) -> pb.Attempt:
    return pb.Attempt(
        number=attempt.number,
        started_us=attempt.started_us or 0,
        finished_us=attempt.finished_us or 0,
        worker=attempt.worker,
        error_kind=attempt.error_kind,
        error_message=attempt.error_message if may_read else "",
    )


def letter_message(letter: Letter) -> pb.DeadLetter:
    """The contract's dead letter."""
    return pb.DeadLetter(
        id=str(letter.id),
        org_id="" if letter.org_id == SUITE else str(letter.org_id),
        consumer=letter.consumer,
        subject=letter.subject,
        message_id=letter.message_id,
        cause=letter.cause,
        error=letter.error,
        deliveries=letter.deliveries,
        state=letter.state,
        died_us=letter.died_us,
        replays=letter.replay_count + (letter.state == REPLAYED),
        payload=letter.payload,
        fingerprint=letter.fingerprint,
        replay_of=str(letter.replay_of or ""),
    )
