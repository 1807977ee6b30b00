"""What the scheduler hears: reports on runs, dead letters, and who is to be forgotten."""

import math
from collections.abc import Sequence
from typing import Final, cast
from uuid import UUID

import msgspec

from chassis import inbox
from chassis.clock import Clock
from chassis.deadletters import DLQ_STREAM
from chassis.errors import Invalid
from chassis.jobs import MAX_ERROR_CHARACTERS, REPORTS_STREAM
from chassis.outbox import Outbox
from chassis.subscription import Delivery, Subscription
from protos.accounts.v1.announcements_pb2 import AccountsAnnouncement
from protos.scheduler.v1.announcements_pb2 import RunReported
from services.scheduler.dispatch import Settler
from services.scheduler.domain.letters import read_letter
from services.scheduler.domain.plans import SUITE
from services.scheduler.domain.runs import Report, ReportState
from services.scheduler.store import letters, runs, schedules

REPORTS_CONSUMER: Final = "scheduler-reports-all"
LETTERS_CONSUMER: Final = "scheduler-dlq-all"
ACCOUNTS_CONSUMER: Final = "scheduler-accounts-all"
REPORT_STATES: Final = ("started", "progressed", "succeeded", "failed")
MAX_RESULT_CHARACTERS: Final = 64 * 1024
# The year 2100: later is no clock but an accident.
_LATEST_US: Final = 4_102_444_800_000_000


def subscriptions(consumers: "Consumers") -> list[Subscription]:
    """Everything this service listens to, besides its work."""
    return [
        Subscription(
            stream=REPORTS_STREAM,
            consumer=REPORTS_CONSUMER,
            subjects=("reports.v1.>",),
            handler=consumers.on_reports,
            max_batch=200,
        ),
        Subscription(
            stream=DLQ_STREAM,
            consumer=LETTERS_CONSUMER,
            subjects=("dlq.v1.>",),
            handler=consumers.on_letters,
            max_batch=20,
            # A letter is never given up: that would be a letter about a letter.
            max_attempts=1_000_000_000,
        ),
        Subscription(
            stream="ACCOUNTS",
            consumer=ACCOUNTS_CONSUMER,
            subjects=("accounts.v1.>",),
            handler=consumers.on_accounts,
        ),
    ]


class Consumers:
    """One handler per stream; each is one transaction."""

    def __init__(self, *, outbox: Outbox, settler: Settler, clock: Clock) -> None:
        self._outbox = outbox
        self._settler = settler
        self._clock = clock

    async def on_reports(self, batch: Sequence[Delivery]) -> None:
        """Moves runs; the order and number of reports make no difference.

        Raises:
            Invalid: a report is about no run of ours, or not about what was handed out.
        """
        async with self._outbox.begin() as tx:
            fresh = await inbox.claim(tx.conn, REPORTS_CONSUMER, batch)
            reports = [read_report(RunReported.FromString(one.data)) for one in fresh]
            if not reports:
                return
            held = await runs.hold(tx.conn, [(one.org_id, one.run_id) for one in reports])
            for one in reports:
                if one.run_id not in held:
                    raise Invalid(f"There is no run {one.run_id}.")
            await self._settler.take(tx, held, reports)

    async def on_letters(self, batch: Sequence[Delivery]) -> None:
        """Indexes dead letters; the id of a letter makes repeats harmless, so no inbox is needed."""
        now_us = self._clock.now_us()
        found = [
            read_letter(one.message_id, one.subject, one.headers, one.data, now_us) for one in batch
        ]
        async with self._outbox.begin() as tx:
            await letters.index(tx.conn, found)

    async def on_accounts(self, batch: Sequence[Delivery]) -> None:
        """Forgets who paused, triggered, replayed or discarded when they are to be forgotten."""
        async with self._outbox.begin() as tx:
            for delivery in await inbox.claim(tx.conn, ACCOUNTS_CONSUMER, batch):
                message = AccountsAnnouncement.FromString(delivery.data)
                if message.WhichOneof("fact") == "user_erased":
                    person = (UUID(message.user_erased.org_id), UUID(message.user_erased.user_id))
                    await schedules.forget_person(tx.conn, *person)
                    await runs.forget_person(tx.conn, *person)
                    await letters.forget_person(tx.conn, *person)


def read_report(message: RunReported) -> Report:
    """Raises Invalid for what no worker of ours would say."""
    try:
        org_id = UUID(message.org_id) if message.org_id else SUITE
        run_id = UUID(message.run_id)
    except ValueError as error:
        raise Invalid("A report must name its run.") from error
    if message.state not in REPORT_STATES:
        raise Invalid.field("state", f"must be one of {', '.join(REPORT_STATES)}")
    if not 0 < message.at_us < _LATEST_US:
        raise Invalid.field("at_us", "must be an instant of this century")
    progress = message.progress if math.isfinite(message.progress) else 0.0
    return Report(
        org_id=org_id,
        run_id=run_id,
        attempt=message.attempt,
        lease_token=message.lease_token,
        state=cast("ReportState", message.state),
        at_us=message.at_us,
        worker=_text(message.worker),
        progress=min(max(progress, 0.0), 1.0),
        result=_result(message.result_json),
        error_kind=_text(message.error_kind),
        error_message=_text(message.error_message),
    )


def _text(text: str) -> str:
    # PostgreSQL's text holds everything but this one character.
    return text.replace("\x00", "")[:MAX_ERROR_CHARACTERS]


def _result(text: str) -> str:
    """A result as it is, or what is wrong with it: a run does not fail for what it says at the end."""
    if len(text) > MAX_RESULT_CHARACTERS:
        return msgspec.json.encode({"omitted": "too large", "characters": len(text)}).decode()
    return text.replace("\x00", "")
