"""Daily reports: sums that agree, days that misbehave, and what stands out."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.sessions.domain import (
    Block,
    Day,
    Highlight,
    Kind,
    Rules,
    ZoneHistory,
    derive,
    roll_up,
    sample,
    sessions_in,
)
from services.sessions.domain.intervals import HOUR_US, MINUTE_US, SECOND_US
from tests.unit.sessions.calendars import us, zone_histories
from tests.unit.sessions.scenes import (
    FIREFOX,
    MYSTERY,
    NOTHING,
    PROPERTY,
    SLACK,
    STARTER,
    T0,
    USER,
    VSCODE,
    page,
    seen,
    timeline,
)

YOUTUBE = page("https://youtube.com/watch")


def blocks_of(start: int, end: int, facets=VSCODE, *, idle: bool = False) -> list[Block]:
    event = sample("laptop", "agent", start, end - start, facets=facets, idle=idle)
    return derive(USER, [event], Rules(), STARTER)


def breakdowns(day: Day) -> list[list[int]]:
    named = (day.by_app, day.by_domain, day.by_category, day.by_project)
    return [day.by_hour, *([share.active_us for share in shares] for shares in named)]


def test_a_session_across_midnight_gives_each_day_its_hour():
    zones = ZoneHistory.of("Europe/Berlin")
    midnight = us(2026, 1, 20, zone="Europe/Berlin")
    blocks = blocks_of(midnight - HOUR_US, midnight + HOUR_US)
    assert len(list(sessions_in(blocks))) == 1
    for day, hour in ((date(2026, 1, 19), 23), (date(2026, 1, 20), 0)):
        report = roll_up(day, blocks, zones)
        assert (report.active_us, report.session_count) == (HOUR_US, 1)
        assert report.by_hour[hour] == HOUR_US


def test_a_day_of_25_hours_active_all_day_has_90000_seconds():
    zones = ZoneHistory.of("Europe/Berlin")
    day = date(2026, 10, 25)
    [(start, end)] = zones.span_of(day)
    report = roll_up(day, blocks_of(start - HOUR_US, end + HOUR_US), zones)
    assert report.active_us == 90_000 * SECOND_US
    assert report.by_hour[2] == 2 * HOUR_US
    assert report.by_hour[3] == HOUR_US


def test_a_day_of_23_hours_has_no_third_hour():
    zones = ZoneHistory.of("Europe/Berlin")
    day = date(2026, 3, 29)
    report = roll_up(day, blocks_of(us(2026, 3, 28), us(2026, 3, 31)), zones)
    assert report.active_us == 23 * HOUR_US
    assert report.by_hour[2] == 0


def test_the_half_hour_of_lord_howe_is_counted_in_its_hour():
    zones = ZoneHistory.of("Australia/Lord_Howe")
    report = roll_up(date(2026, 4, 5), blocks_of(us(2026, 4, 4), us(2026, 4, 7)), zones)
    assert report.active_us == 24.5 * HOUR_US
    assert report.by_hour[1] == 1.5 * HOUR_US


def test_a_day_that_does_not_exist_is_empty():
    zones = ZoneHistory.of("Pacific/Apia")
    report = roll_up(date(2011, 12, 30), blocks_of(us(2011, 12, 29), us(2012, 1, 2)), zones)
    assert (report.active_us, report.session_count, sum(report.by_hour)) == (0, 0, 0)
    assert report.time_zone == "Pacific/Apia"


def test_a_day_start_at_four_moves_the_night_but_not_the_clock():
    zones = ZoneHistory.of("Europe/Berlin", 240)
    night = us(2026, 1, 20, 1, zone="Europe/Berlin")
    blocks = blocks_of(night, night + HOUR_US)
    assert roll_up(date(2026, 1, 19), blocks, zones).by_hour[1] == HOUR_US
    assert roll_up(date(2026, 1, 20), blocks, zones).active_us == 0


def test_breakdowns_name_the_unknown_with_an_empty_name_and_rank_by_time():
    evidence = [
        seen(0, 300, VSCODE),
        seen(300, 100, FIREFOX),
        seen(400, 50, NOTHING),
        seen(450, 50, YOUTUBE),
    ]
    report = roll_up(date(2026, 1, 19), timeline(evidence), ZoneHistory.of("UTC"))
    seconds = [(share.name, share.active_us // SECOND_US) for share in report.by_app]
    assert seconds == [("Visual Studio Code", 300), ("Firefox", 150), ("", 50)]
    assert [share.name for share in report.by_domain] == ["", "quiet.example", "youtube.com"]
    assert [share.name for share in report.by_category] == ["development", "distraction"]
    assert [share.name for share in report.by_project] == [""]


@st.composite
def weeks(draw: st.DrawFn) -> list[Block]:
    """Activity and idleness around the turn of clocks, in steps of minutes."""
    start = draw(st.integers(us(2005, 1, 1), us(2030, 1, 1)))
    steps = st.tuples(
        st.integers(1, 900),
        st.sampled_from([VSCODE, SLACK, YOUTUBE, MYSTERY, FIREFOX]),
        st.sampled_from([False, False, True, None]),
    )
    evidence, cursor = [], start
    for minutes, facets, idle in draw(st.lists(steps, min_size=1, max_size=10)):
        if idle is not None:
            evidence.append(
                sample("laptop", "agent", cursor, minutes * MINUTE_US, facets=facets, idle=idle)
            )
        cursor += minutes * MINUTE_US
    return derive(USER, evidence, Rules(), STARTER)


@PROPERTY
@given(weeks(), zone_histories())
def test_every_breakdown_adds_up_and_days_share_out_the_whole(
    blocks: list[Block], zones: ZoneHistory
):
    if not blocks:
        return
    days = zones.dates_touching(blocks[0].start_us, blocks[-1].end_us)
    reports = [roll_up(day, blocks, zones) for day in days]
    for report in reports:
        assert {sum(parts) for parts in breakdowns(report)} == {report.active_us}
        assert report == roll_up(report.date, _touching(report.date, blocks, zones), zones)
    sessions = list(sessions_in(blocks))
    assert sum(one.active_us for one in reports) == sum(one.active_us for one in sessions)
    assert sum(one.idle_us for one in reports) == sum(one.idle_us for one in sessions)
    beyond = roll_up(days[-1] + timedelta(3), blocks, zones)
    assert (beyond.active_us, beyond.session_count) == (0, 0)


def _touching(day: date, blocks: list[Block], zones: ZoneHistory) -> list[Block]:
    return [
        block
        for block in blocks
        if any(start < block.end_us and block.start_us < end for start, end in zones.span_of(day))
    ]


def test_patterns_name_focus_switching_idleness_and_distraction():
    evidence = [
        seen(0, 1800, VSCODE),
        seen(1800, 1200, YOUTUBE),
        seen(3000, 600, idle=True),
        seen(3600, 900, SLACK),
        seen(4500, 300, idle=True),
        seen(4800, 900, YOUTUBE),
    ]
    patterns = roll_up(date(2026, 1, 19), timeline(evidence), ZoneHistory.of("UTC")).patterns
    assert patterns.longest_focus == Highlight(T0, 1800 * SECOND_US, "development")
    assert patterns.idle_periods == [
        Highlight(T0 + 3000 * SECOND_US, 600 * SECOND_US, "distraction"),
        Highlight(T0 + 4500 * SECOND_US, 300 * SECOND_US, "communication"),
    ]
    assert patterns.distraction_blocks == [
        Highlight(T0 + 1800 * SECOND_US, 1200 * SECOND_US, "development"),
        Highlight(T0 + 4800 * SECOND_US, 900 * SECOND_US, "communication"),
    ]
    assert patterns.context_switch_rate == 0
    assert patterns.peak_hour == 2


def test_the_switch_rate_is_per_active_hour():
    evidence = [seen(60 * n, 60, (VSCODE, FIREFOX)[n % 2]) for n in range(30)]
    patterns = roll_up(date(2026, 1, 19), timeline(evidence), ZoneHistory.of("UTC")).patterns
    assert patterns.context_switch_rate == 58


def test_a_day_without_anything_has_no_patterns():
    report = roll_up(date(2026, 1, 19), [], ZoneHistory.of("UTC"))
    assert report.patterns.longest_focus is None
    assert report.patterns.peak_hour is None
    assert report.patterns.context_switch_rate == 0
    assert report.by_app == []


def test_highlights_are_at_most_ten_the_longest_first():
    evidence = []
    for n in range(12):
        evidence += [seen(2000 * n, 100), seen(2000 * n + 100, 200 + n, idle=True)]
    report = roll_up(date(2026, 1, 19), timeline(evidence), ZoneHistory.of("UTC"))
    lengths = [one.duration_us // SECOND_US for one in report.patterns.idle_periods]
    assert lengths == list(range(211, 201, -1))
    assert report.session_count == 24
    assert {one.kind for one in sessions_in(timeline(evidence))} == {Kind.ACTIVE, Kind.IDLE}
