"""Instants by the calendar, and people who move between zones where clocks misbehave."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from services.sessions.domain import ZoneChange, ZoneHistory


def us(*when: int, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime(*when, tzinfo=ZoneInfo(zone), fold=fold)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


ZONES = [
    "UTC",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Santiago",
    "America/St_Johns",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Antarctica/Troll",
]


@st.composite
def zone_histories(draw: st.DrawFn) -> ZoneHistory:
    moves = draw(st.lists(st.integers(us(2005, 1, 1), us(2030, 1, 1)), max_size=3, unique=True))
    names = draw(st.lists(st.sampled_from(ZONES), min_size=4, max_size=4))
    starts: list[int | None] = [None, *sorted(moves)]
    changes = [ZoneChange(start, name) for start, name in zip(starts, names, strict=False)]
    return ZoneHistory(tuple(changes), draw(st.sampled_from([0, 0, 240, 150, 1439])))
