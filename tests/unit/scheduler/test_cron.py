"""Cron against a scan of every minute, on ordinary days and where clocks change."""

import os
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import Invalid
from services.scheduler.domain import cron
from tests.unit.scheduler.minutes import fires, utc

PROPERTY = settings(max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "60")), deadline=None)

# A day in which the clock changes: by an hour either way, by half an hour, at midnight, by two
# hours, in zones off by minutes, and where it happens twice within a month.
CHANGES = (
    ("Europe/Berlin", utc(2026, 3, 29, 1)),
    ("Europe/Berlin", utc(2026, 10, 25, 1)),
    ("America/New_York", utc(2027, 3, 14, 7)),
    ("America/New_York", utc(2027, 11, 7, 6)),
    ("Australia/Lord_Howe", utc(2026, 4, 4, 15)),
    ("Australia/Lord_Howe", utc(2026, 10, 3, 15, 30)),
    ("America/Havana", utc(2026, 3, 8, 5)),
    ("America/Havana", utc(2026, 11, 1, 5)),
    ("Asia/Beirut", utc(2026, 3, 28, 22)),
    ("Antarctica/Troll", utc(2026, 3, 29, 1)),
    ("Pacific/Chatham", utc(2027, 9, 25, 14)),
    ("Africa/Casablanca", utc(2026, 2, 15, 2)),
    ("America/Santiago", utc(2027, 9, 5, 4)),
    ("Asia/Kathmandu", utc(2026, 5, 1, 0)),
    ("UTC", utc(2026, 12, 31, 23)),
)


def field(low: int, high: int, longest_step: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.integers(2, longest_step).map(lambda step: f"*/{step}"),
        number.map(str),
        st.lists(number, min_size=2, max_size=4).map(lambda some: ",".join(map(str, some))),
        st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}"),
    )


expressions = st.builds(
    "{} {} {} * {}".format,
    field(0, 59, 30),
    # Clocks change in the small hours, so that is where the interesting ones are.
    st.one_of(field(0, 4, 6), field(0, 23, 12)),
    st.sampled_from(("*", "*", "*", "1,8,15,28-29")),
    st.sampled_from(("*", "*", "1-5", "0", "7")),
)


def found(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    moments = []
    moment = cron.next_after(expression, zone, start)
    while moment is not None and moment <= end:
        moments.append(moment)
        moment = cron.next_after(expression, zone, moment)
    return moments


@PROPERTY
@given(expressions, st.sampled_from(CHANGES))
def test_every_fire_around_a_change_of_clocks_is_the_one_a_minute_scan_finds(
    expression: str, change: tuple[str, datetime]
) -> None:
    zone, at = change
    start, end = at - timedelta(hours=8), at + timedelta(hours=14)
    assert found(expression, zone, start, end) == fires(expression, zone, start, end)


@PROPERTY
@given(expressions, st.sampled_from(CHANGES), st.integers(-30_000, 30_000))
def test_where_the_search_starts_makes_no_difference(
    expression: str, change: tuple[str, datetime], offset_seconds: int
) -> None:
    zone, at = change
    start = at + timedelta(seconds=offset_seconds)
    first = cron.next_after(expression, zone, start)
    assert first is None or first > start
    earlier = start - timedelta(hours=3)
    assert first == next(
        (one for one in found(expression, zone, earlier, first or at) if one > start), None
    )


def test_the_changes_listed_here_are_changes() -> None:
    def offset(zone: str, at: datetime) -> timedelta | None:
        return at.astimezone(ZoneInfo(zone)).utcoffset()

    changing = [
        (zone, at)
        for zone, at in CHANGES
        if offset(zone, at - timedelta(hours=1)) != offset(zone, at + timedelta(hours=1))
    ]
    assert len(changing) == len(CHANGES) - 2


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # Debian's rules, as measured on cronsim and listed in the table of peers.
        ("30 2 * * *", utc(2026, 3, 28, 12), [utc(2026, 3, 29, 1), utc(2026, 3, 30, 0, 30)]),
        ("30 2 * * *", utc(2026, 10, 24, 12), [utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30)]),
        ("0,30 2 * * *", utc(2026, 3, 29), [utc(2026, 3, 29, 1), utc(2026, 3, 30)]),
        ("30 */2 * * *", utc(2026, 3, 29), [utc(2026, 3, 29, 2, 30), utc(2026, 3, 29, 4, 30)]),
        (
            "*/30 * * * *",
            utc(2026, 10, 25, 0, 15),
            [utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1)],
        ),
        ("15 6 29 2 *", utc(2026, 1, 1), [utc(2028, 2, 29, 5, 15), utc(2032, 2, 29, 5, 15)]),
    ],
)
def test_known_days(expression: str, after: datetime, expected: list[datetime]) -> None:
    first = cron.next_after(expression, BERLIN, after)
    assert first is not None
    assert [first, cron.next_after(expression, BERLIN, first)] == expected


@pytest.mark.parametrize(
    ("expression", "zone", "field_at_fault"),
    [
        ("* * * *", "UTC", "expression"),
        ("0 * * * * *", "UTC", "expression"),
        ("61 * * * *", "UTC", "expression"),
        ("*/0 * * * *", "UTC", "expression"),
        ("0 0 30 2 *", "UTC", "expression"),
        ("0 0 31 2,4 *", "UTC", "expression"),
        ("", "UTC", "expression"),
        ("@daily", "UTC", "expression"),
        ("0 0 * * *", "Europe/Nowhere", "time_zone"),
        ("0 0 * * *", "+02:00", "time_zone"),
        ("0 0 * * *", "../etc/passwd", "time_zone"),
        ("0 0 * * *", "", "time_zone"),
    ],
)
def test_what_can_not_be_kept_is_refused_with_its_field(
    expression: str, zone: str, field_at_fault: str
) -> None:
    with pytest.raises(Invalid) as refused:
        cron.check(expression, zone)
    assert refused.value.violations[0].field == field_at_fault


def test_a_plan_that_fires_once_in_four_years_is_accepted() -> None:
    cron.check("0 0 29 2 *", "Europe/Berlin")


def test_naive_wall_time_is_never_returned() -> None:
    moment = cron.next_after("* * * * *", "Asia/Kathmandu", utc(2026, 5, 1))
    assert moment is not None
    assert moment.tzinfo is UTC
