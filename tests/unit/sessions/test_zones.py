"""Local dates of instants and instants of local dates, in the places where clocks misbehave."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Invalid
from services.sessions.domain import ZoneChange, ZoneHistory
from services.sessions.domain.intervals import DAY_US, HOUR_US, MINUTE_US, total
from services.sessions.domain.zones import hours_in
from tests.unit.sessions.calendars import us, zone_histories
from tests.unit.sessions.scenes import PROPERTY


def hours(day: date, zone: str, day_start_minutes: int = 0) -> float:
    return total(ZoneHistory.of(zone, day_start_minutes).span_of(day)) / HOUR_US


@pytest.mark.parametrize(
    ("zone", "day", "length"),
    [
        ("Europe/Berlin", date(2026, 3, 28), 24),
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5),
        ("America/Santiago", date(2024, 9, 8), 23),
        ("America/Santiago", date(2024, 4, 6), 25),
        ("Pacific/Apia", date(2011, 12, 29), 24),
        ("Pacific/Apia", date(2011, 12, 30), 0),
        ("Pacific/Apia", date(2011, 12, 31), 24),
        ("America/St_Johns", date(2005, 10, 29), 24 + 59 / 60),
        ("America/St_Johns", date(2005, 10, 30), 24 + 1 / 60),
        ("Asia/Kathmandu", date(2026, 1, 1), 24),
        ("Europe/Amsterdam", date(1937, 7, 1), 24 - 28 / 3600),
    ],
)
def test_days_are_as_long_as_clocks_make_them(zone, day, length):
    assert hours(day, zone) == pytest.approx(length)


def test_a_missing_midnight_starts_the_day_at_one():
    [(start, end)] = ZoneHistory.of("America/Santiago").span_of(date(2024, 9, 8))
    assert start == us(2024, 9, 8, 1, zone="America/Santiago") == us(2024, 9, 8, 4)
    assert end == us(2024, 9, 9, zone="America/Santiago")


def test_santiago_has_367_days_between_two_instants_across_its_missing_midnight():
    zones = ZoneHistory.of("America/Santiago")
    start = us(2024, 4, 29, 0, 0, zone="America/Santiago")
    end = us(2025, 4, 30, 2, 8, zone="America/Santiago")
    dates = zones.dates_touching(start, end)
    assert len(dates) == 367
    assert (dates[0], dates[-1]) == (date(2024, 4, 29), date(2025, 4, 30))


def test_midnight_that_comes_twice_gives_each_date_what_its_clocks_showed():
    """St. John's went from 00:01 back to 23:01, so the new date began, stopped and began again."""
    zones = ZoneHistory.of("America/St_Johns")
    evening = zones.span_of(date(2005, 10, 29))
    night = zones.span_of(date(2005, 10, 30))
    assert (len(evening), len(night)) == (2, 2)
    assert evening[0][1] == night[0][0] == us(2005, 10, 30, 2, 30)
    assert night[0][1] == evening[1][0] == us(2005, 10, 30, 2, 31)
    assert evening[1][1] == night[1][0] == us(2005, 10, 30, 3, 30)


@pytest.mark.parametrize(("day", "length"), [(28, 23), (29, 24)])
def test_a_day_that_starts_at_four_has_the_short_night_of_the_date_before(day, length):
    assert hours(date(2026, 3, day), "Europe/Berlin", 240) == length


def test_a_day_start_inside_the_hour_that_is_skipped_or_repeated():
    assert hours(date(2026, 3, 28), "Europe/Berlin", 150) == 23.5
    assert hours(date(2026, 3, 29), "Europe/Berlin", 150) == 23.5
    repeated = ZoneHistory.of("Europe/Berlin", 150)
    assert len(repeated.span_of(date(2026, 10, 25))) == 2
    assert total(repeated.span_of(date(2026, 10, 24))) == 24.5 * HOUR_US
    assert total(repeated.span_of(date(2026, 10, 25))) == 24.5 * HOUR_US


MOVED_EAST = ZoneHistory(
    (ZoneChange(None, "America/Los_Angeles"), ZoneChange(us(2026, 6, 10, 12), "Asia/Tokyo"))
)
MOVED_WEST = ZoneHistory(
    (ZoneChange(None, "Asia/Tokyo"), ZoneChange(us(2026, 6, 10, 12), "America/Los_Angeles"))
)


def test_moving_east_shortens_a_day_and_moving_west_lengthens_one():
    assert MOVED_EAST.date_of(us(2026, 6, 10, 12) - 1) == date(2026, 6, 10)
    assert total(MOVED_EAST.span_of(date(2026, 6, 10))) == 8 * HOUR_US
    assert total(MOVED_WEST.span_of(date(2026, 6, 10))) == 40 * HOUR_US
    assert MOVED_EAST.zone_on(date(2026, 6, 9)) == "America/Los_Angeles"
    assert MOVED_EAST.zone_on(date(2026, 6, 10)) == "Asia/Tokyo"


def test_a_zone_change_may_skip_a_date_or_come_back_to_one():
    late = ZoneHistory(
        (
            ZoneChange(None, "Pacific/Pago_Pago"),
            ZoneChange(us(2026, 6, 10, 11), "Pacific/Kiritimati"),
        )
    )
    assert late.span_of(date(2026, 6, 10)) == []
    assert late.zone_on(date(2026, 6, 10)) == "Pacific/Kiritimati"
    back = ZoneHistory(
        (
            ZoneChange(None, "Pacific/Kiritimati"),
            ZoneChange(us(2026, 6, 10, 11), "Pacific/Pago_Pago"),
        )
    )
    assert len(back.span_of(date(2026, 6, 10))) == 2
    assert total(back.span_of(date(2026, 6, 10))) == 48 * HOUR_US
    assert len(back.span_of(date(2026, 6, 11))) == 2
    assert total(back.span_of(date(2026, 6, 11))) == 25 * HOUR_US


@PROPERTY
@given(zone_histories(), st.integers(us(2005, 1, 1), us(2030, 1, 1)))
def test_every_instant_belongs_to_exactly_one_date(zones: ZoneHistory, instant: int):
    today = zones.date_of(instant)
    owners = [
        day
        for day in (today + timedelta(days) for days in range(-2, 3))
        if any(start <= instant < end for start, end in zones.span_of(day))
    ]
    assert owners == [today]
    assert zones.dates_touching(instant, instant + 1) == [today]


@PROPERTY
@given(zone_histories(), st.integers(us(2005, 1, 1), us(2030, 1, 1)), st.integers(1, 9 * DAY_US))
def test_dates_and_hours_share_out_every_stretch(zones: ZoneHistory, start: int, length: int):
    end = start + length
    dates = zones.dates_touching(start, end)
    shares = [
        max(0, min(end, until) - max(start, since))
        for day in dates
        for since, until in zones.span_of(day)
    ]
    assert sum(shares) == length
    cursor = start
    for hour, spent in hours_in(zones, start, end):
        zone = ZoneInfo(zones.zone_at(cursor))
        for at in (cursor, cursor + spent - 1):
            local = datetime.fromtimestamp(at // 1_000_000, zone)
            assert local.hour == hour
        cursor += spent
    assert cursor == end


def test_half_hour_zones_turn_the_hour_when_their_clocks_do():
    zones = ZoneHistory.of("Asia/Kathmandu")
    start = us(2026, 1, 1, 9, 0, zone="Asia/Kathmandu")
    pieces = list(hours_in(zones, start - 30 * MINUTE_US, start + 90 * MINUTE_US))
    assert pieces == [(8, 30 * MINUTE_US), (9, HOUR_US), (10, 30 * MINUTE_US)]


@pytest.mark.parametrize(
    ("changes", "day_start"),
    [
        ((), 0),
        ((ZoneChange(None, "Mars/Olympus"),), 0),
        ((ZoneChange(None, "../etc/passwd"),), 0),
        ((ZoneChange(None, ""),), 0),
        ((ZoneChange(None, "UTC"), ZoneChange(None, "UTC")), 0),
        ((ZoneChange(None, "UTC"), ZoneChange(5, "UTC"), ZoneChange(5, "UTC")), 0),
        ((ZoneChange(None, "UTC"),), 1440),
        ((ZoneChange(None, "UTC"),), -1),
    ],
)
def test_impossible_histories_are_refused(changes, day_start):
    with pytest.raises(Invalid):
        ZoneHistory(changes, day_start)


def test_the_first_zone_holds_for_all_earlier_time_even_when_it_says_since_when():
    zones = ZoneHistory((ZoneChange(us(2026, 1, 1), "Asia/Tokyo"),))
    assert zones.zone_at(us(1999, 1, 1)) == "Asia/Tokyo"
    assert zones.date_of(us(1999, 1, 1, 16)) == date(1999, 1, 2)
