"""The suite's own upkeep: what runs when. To add one, add a line, and the job to its service.

A change here takes effect when a scheduler starts, as a new revision; a pause survives it.
"""

import hashlib
from typing import Final
from uuid import UUID, uuid5

import msgspec

from services.scheduler.domain.plans import SUITE, Plan, Policy, Schedule

_IDS: Final = UUID("1b1e1f53-9a5f-5f0e-8d5e-6a4f0c1f7b0d")
_MINUTE: Final = 60
_HOUR: Final = 3600


def _upkeep(job: str, plan: Plan, **policy: int) -> Schedule:
    """Upkeep catches up once after an outage, and never runs twice at a time."""
    settings = {"misfire_window_seconds": 12 * _HOUR, "jitter_seconds": 5 * _MINUTE, **policy}
    return Schedule(
        org_id=SUITE,
        id=uuid5(_IDS, job),
        name=job,
        job=job,
        plan=plan,
        policy=msgspec.convert(settings, Policy),
    )


SYSTEM_SCHEDULES: Final = (
    # A missing partition sends rows to a default one, so this goes before everything else.
    _upkeep(
        "ingest.partitions",
        Plan("every", str(_HOUR)),
        misfire_window_seconds=_HOUR,
        jitter_seconds=0,
        priority=10,
    ),
    _upkeep("ingest.retention", Plan("cron", "10 3 * * *"), max_runtime_seconds=_HOUR),
    _upkeep(
        "sessions.verify",
        Plan("cron", "30 2 * * *"),
        max_runtime_seconds=4 * _HOUR,
        priority=-10,
    ),
    _upkeep("sessions.retention", Plan("cron", "20 3 * * *"), max_runtime_seconds=_HOUR),
    _upkeep("gateway.retention", Plan("cron", "30 3 * * *"), max_runtime_seconds=_HOUR),
    _upkeep("scheduler.retention", Plan("cron", "40 3 * * *"), max_runtime_seconds=_HOUR),
)


def declaration(schedule: Schedule) -> str:
    """Changes when what is declared changes, so that what an operator adjusted stays otherwise."""
    declared = (schedule.name, schedule.job, schedule.plan, schedule.policy, schedule.args)
    return hashlib.sha256(msgspec.json.encode(declared)).hexdigest()[:16]
