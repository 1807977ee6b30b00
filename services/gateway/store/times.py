"""Instants that may be absent: null in the database, 0 in the domain."""

from datetime import datetime

from chassis.clock import to_datetime, to_us


def us(moment: datetime | None) -> int:
    """Microseconds since the Unix epoch; 0 for never."""
    return to_us(moment) if moment else 0


def moment(us: int) -> datetime | None:
    """The instant; None for 0."""
    return to_datetime(us) if us else None
