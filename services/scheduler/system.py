"""Stores the suite's own schedules when a scheduler starts; any number of replicas may."""

import msgspec

from chassis.log import get_logger
from chassis.postgres import Pool, transaction
from services.scheduler.domain.plans import SUITE, check_plan, next_fire
from services.scheduler.domain.system import SYSTEM_SCHEDULES, declaration
from services.scheduler.store import replicas, schedules

log = get_logger(__name__)


async def declare_schedules(pool: Pool) -> None:
    """Brings the stored schedules to what the code declares; a pause and counters stay.

    Raises:
        Invalid: a declared plan can't be kept.
        Unavailable: the database did not answer.
    """
    async with transaction(pool) as conn:
        now_us = await replicas.now_us(conn)
        for schedule in SYSTEM_SCHEDULES:
            check_plan(schedule.plan)
            moment, fire_at = next_fire(schedule, now_us)
            planned = msgspec.structs.replace(schedule, scheduled_for_us=moment, fire_at_us=fire_at)
            if await schedules.declare(conn, planned, declaration(schedule)):
                log.info("schedule.declared", name=schedule.name)
        await schedules.retire(conn, SUITE, [schedule.id for schedule in SYSTEM_SCHEDULES])


async def keep_partitions(pool: Pool) -> None:
    """Makes the partitions of today and the days ahead, before anything is written."""
    async with transaction(pool) as conn:
        await replicas.keep_partitions(conn)
