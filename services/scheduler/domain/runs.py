"""The life of a run, as a function of what was dispatched and of the set of reports about it.

Reports come late, twice and in any order. Each is joined into the attempt it is about, and `join`
is commutative, associative and idempotent; a run's state is read off its latest attempt. An older
attempt's reports are kept as evidence and change nothing else (the lease token fences them).

    queued ──► running ──► succeeded
      ▲           │
      └─ back-off ┴──────► failed          missed, skipped: never dispatched
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Final, Literal, NamedTuple, cast
from uuid import UUID

import msgspec

QUEUED: Final = "queued"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
MISSED: Final = "missed"
SKIPPED: Final = "skipped"
STATES: Final = (QUEUED, RUNNING, SUCCEEDED, FAILED, "canceled", MISSED, SKIPPED)

LIVE_SHELF: Final = "live"
DAY_SHELF: Final = "day"
WEEK_SHELF: Final = "week"
SHELVES: Final = {QUEUED: LIVE_SHELF, RUNNING: LIVE_SHELF, FAILED: WEEK_SHELF}
"""Where rows of a state are kept, as long as the name says; other states are on the day shelf."""

# The same request fails the same way again.
PERMANENT_KINDS: Final = frozenset({"invalid"})
_RANK: Final = {"": 0, "lost": 1, "failed": 2, "succeeded": 3}

Outcome = Literal["", "lost", "failed", "succeeded"]
ReportState = Literal["started", "progressed", "lost", "succeeded", "failed"]


class Place(NamedTuple):
    """Where a run and its attempts are kept; live ones under the day 1970-01-01."""

    shelf: str
    shelved_on: date


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was heard about an attempt; `lost` is the scheduler's own, when its lease ran out."""

    org_id: UUID
    run_id: UUID
    attempt: int
    lease_token: int
    state: ReportState
    at_us: int
    worker: str = ""
    progress: float = 0.0
    result: str = ""
    error_kind: str = ""
    error_message: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about one attempt; None times have not happened, `outcome` "" is open."""

    org_id: UUID
    run_id: UUID
    number: int
    lease_token: int
    started_us: int | None = None
    finished_us: int | None = None
    outcome: Outcome = ""
    worker: str = ""
    progress: float = 0.0
    result: str = ""
    error_kind: str = ""
    error_message: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `attempt` 0 was never dispatched; `is_waiting` means backing off before the next.

    `stands_for` counts the moments a missed run stands for.
    """

    org_id: UUID
    id: UUID
    schedule_id: UUID | None
    job: str
    scheduled_for_us: int
    state: str
    attempt: int
    lease_token: int
    max_attempts: int
    retry_base_seconds: int
    retry_cap_seconds: int
    start_margin_seconds: int
    max_runtime_seconds: int
    is_waiting: bool = False
    args: str = ""
    priority: int = 0
    progress: float = 0.0
    result: str = ""
    stands_for: int = 1

    @property
    def shelf(self) -> str:
        """Where its row is kept."""
        return SHELVES.get(self.state, DAY_SHELF)


def current_attempt(run: Run) -> Attempt:
    """The attempt that was dispatched last, before anything was heard about it."""
    return Attempt(
        org_id=run.org_id, run_id=run.id, number=run.attempt, lease_token=run.lease_token
    )


def join(attempt: Attempt, report: Report) -> Attempt:
    """The attempt with the report taken in; in any order and number of times the same result."""
    joined = msgspec.structs.replace(attempt, progress=max(attempt.progress, report.progress))
    if report.state in {"started", "progressed"}:
        return _join_start(joined, report)
    # The scheduler that calls it lost does not know who worked on it; whoever started stays named.
    worker = joined.worker if report.state == "lost" else report.worker
    theirs = (_RANK[report.state], -report.at_us, worker, *_details(report))
    ours = (_RANK[joined.outcome], -(joined.finished_us or 0), joined.worker, *_details(joined))
    if theirs <= ours:
        return joined
    return msgspec.structs.replace(
        joined,
        outcome=cast("Outcome", report.state),
        finished_us=report.at_us,
        worker=worker,
        result=report.result,
        error_kind=report.error_kind,
        error_message=report.error_message,
    )


def _details(one: Attempt | Report) -> tuple[str, str, str]:
    return (one.result, one.error_kind, one.error_message)


def _join_start(attempt: Attempt, report: Report) -> Attempt:
    """The earliest start counts; who finished is named rather than who started."""
    is_finished = _RANK[attempt.outcome] > _RANK["lost"]
    if attempt.started_us is not None:
        known = (attempt.started_us, "" if is_finished else attempt.worker)
        if known <= (report.at_us, "" if is_finished else report.worker):
            return attempt
    worker = attempt.worker if is_finished else report.worker
    return msgspec.structs.replace(attempt, started_us=report.at_us, worker=worker)


def state_of(attempt: Attempt, max_attempts: int) -> str:
    """The state of a run whose latest attempt this is."""
    if attempt.outcome == "succeeded":
        return SUCCEEDED
    if attempt.outcome:
        return QUEUED if may_retry(attempt, max_attempts) else FAILED
    return QUEUED if attempt.started_us is None else RUNNING


def may_retry(attempt: Attempt, max_attempts: int) -> bool:
    """Whether another attempt makes sense and is allowed."""
    return attempt.number < max_attempts and attempt.error_kind not in PERMANENT_KINDS


def settle(run: Run, attempt: Attempt) -> Run:
    """The run as its latest attempt says; itself when nothing changed."""
    state = state_of(attempt, run.max_attempts)
    return msgspec.structs.replace(
        run,
        state=state,
        is_waiting=state == QUEUED and attempt.outcome != "",
        progress=1.0 if state == SUCCEEDED else attempt.progress,
        result=attempt.result,
    )


def backoff_seconds(run: Run, random: Callable[[], float]) -> float:
    """How long to wait after attempt `run.attempt`: exponential, capped, with full jitter."""
    ceiling = run.retry_base_seconds * 2.0 ** min(run.attempt - 1, 30)
    return random() * min(ceiling, run.retry_cap_seconds)


def attempt_of(run: Run, attempts: Mapping[int, Attempt], report: Report) -> Attempt | None:
    """The attempt a report is about; None when it carries the token of no attempt of the run.

    `attempts` holds those of which something was heard, by number.
    """
    attempt = attempts.get(report.attempt)
    if attempt is None and report.attempt == run.attempt > 0:
        attempt = current_attempt(run)
    if attempt is None or attempt.lease_token != report.lease_token:
        return None
    return attempt
