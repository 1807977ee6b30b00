"""Months of UTC, by which raw events are partitioned."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import NewType

from chassis.clock import to_datetime, to_us

Month = NewType("Month", int)
"""Months since the year 0: `year * 12 + month - 1`, so neighbours differ by 1."""


def month_of(us: int) -> Month:
    """The month of an instant."""
    moment = to_datetime(us)
    return Month(moment.year * 12 + moment.month - 1)


def first_day(month: Month) -> date:
    """The month's first day."""
    return date(month // 12, month % 12 + 1, 1)


def first_us(month: Month) -> int:
    """The month's first instant."""
    return to_us(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC))


def months_of(starts_us: Sequence[int]) -> set[Month]:
    """The months of any number of instants."""
    if not starts_us:
        return set()
    first, last = month_of(min(starts_us)), month_of(max(starts_us))
    # Nearly every batch lies in one month, or in two that are neighbours.
    if last - first <= 1:
        return {first, last}
    return {month_of(start) for start in starts_us}


def ahead(us: int, count: int) -> list[Month]:
    """The month of an instant and the `count` months after it."""
    first = month_of(us)
    return [Month(first + step) for step in range(count + 1)]


def earliest_kept_us(now_us: int, retain_months: int | None, never_before_us: int) -> int:
    """The first instant at which an event may start; `retain_months` None keeps everything."""
    if retain_months is None:
        return never_before_us
    return max(first_us(Month(month_of(now_us) - retain_months)), never_before_us)
