"""Instants as whole microseconds."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import MICROSECONDS, ManualClock, SystemClock, to_datetime, to_us

# Year 1 to year 9999: all that datetime can say.
INSTANTS = st.integers(min_value=-62_135_596_800 * MICROSECONDS, max_value=253_402_300_799_999_999)


@given(INSTANTS)
def test_microseconds_survive_the_way_through_datetime(us: int) -> None:
    assert to_us(to_datetime(us)) == us


@given(INSTANTS)
def test_the_datetime_is_aware_and_utc(us: int) -> None:
    assert to_datetime(us).tzinfo is UTC


def test_known_instants() -> None:
    assert to_us(datetime(2026, 3, 29, 1, 0, 0, 250, UTC)) == 1_774_746_000_000_250
    assert to_datetime(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)


def test_the_zone_of_a_datetime_does_not_matter() -> None:
    nepal = timezone(timedelta(hours=5, minutes=45))
    assert to_us(datetime(2026, 1, 1, 5, 45, tzinfo=nepal)) == to_us(
        datetime(2026, 1, 1, tzinfo=UTC)
    )


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(now_us=5 * MICROSECONDS)
    before = clock.monotonic()
    assert clock.now_us() == 5 * MICROSECONDS
    clock.advance(1.5)
    assert clock.now_us() == 6_500_000
    assert clock.monotonic() - before == 1.5
    clock.advance(-0.5)
    assert clock.now_us() == 6 * MICROSECONDS


def test_the_system_clock_tells_utc_and_never_runs_backwards_when_monotonic() -> None:
    clock = SystemClock()
    assert abs(clock.now_us() - to_us(datetime.now(UTC))) < 5 * MICROSECONDS
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)
