"""The table of sessionization.md, row by row; seconds from T0."""

import pytest

from services.sessions.domain import Kind, diff, session_id
from tests.unit.sessions.scenes import (
    FIREFOX,
    NOTHING,
    SECOND,
    SLACK,
    T0,
    USER,
    VSCODE,
    active_seconds,
    afk,
    outline,
    owners,
    page,
    seen,
    sessions,
    timeline,
)

C_A = [seen(5 * i, 5) for i in range(125)]


def test_c_a_continuous_samples_are_one_session():
    assert outline(sessions(C_A)) == [("active", 0, 625)]
    assert active_seconds(timeline(C_A)) == 625


def test_c_b_short_idle_samples_are_absorbed():
    evidence = [seen(5 * i, 5, idle=i % 10 == 9) for i in range(125)]
    assert outline(sessions(evidence)) == [("active", 0, 625)]
    assert active_seconds(timeline(evidence)) == 625


def test_c260_interleaved_producers_make_one_session():
    evidence = []
    idle = False
    for i in range(260):
        if i and i % 18:
            idle = not idle
        evidence.append(seen(620 * i / 259, 5, idle=idle))
    found = sessions(evidence)
    assert [one.kind for one in found] == [Kind.ACTIVE]
    total = sum(one.active_us + one.idle_us for one in found)
    assert total <= 625 * SECOND
    assert found[0].active_us >= 615 * SECOND


def test_c_e_two_uncategorized_domains_are_one_session_with_124_switches():
    domains = (page("https://a.example/"), page("https://b.example/"))
    [session] = sessions([seen(5 * i, 5, domains[i % 2]) for i in range(125)])
    assert (session.context_switches, session.category) == (124, "")
    assert session.active_us == 625 * SECOND


def test_c_h_the_same_upload_twice_is_the_same_session():
    assert timeline(C_A + C_A) == timeline(C_A)


def test_c_i_an_editor_and_a_development_site_are_one_session_of_420_seconds():
    evidence = [seen(0, 300, VSCODE), seen(300, 120, page("https://github.com/o/r"))]
    [session] = sessions(evidence)
    assert (session.category, session.active_us) == ("development", 420 * SECOND)
    assert session.context_switches == 1
    assert session.app == "Visual Studio Code"
    assert session.domain == "github.com"


def test_c_i_an_uncategorized_site_inherits_the_session():
    [session] = sessions([seen(0, 300, VSCODE), seen(300, 120, FIREFOX)])
    assert (session.category, session.active_us) == ("development", 420 * SECOND)


def test_gap_of_301_seconds_ends_a_session():
    assert outline(sessions([seen(0, 60), seen(361, 39)])) == [
        ("active", 0, 60),
        ("active", 361, 400),
    ]


def test_gap_of_300_seconds_does_not_end_a_session_and_does_not_count():
    evidence = [seen(0, 60), seen(360, 40)]
    assert outline(sessions(evidence)) == [("active", 0, 400)]
    assert active_seconds(timeline(evidence)) == 100


def test_idle_of_120_seconds_ends_a_session():
    found = sessions([seen(0, 60), seen(60, 120, idle=True), seen(180, 120)])
    assert outline(found) == [("active", 0, 60), ("idle", 60, 180), ("active", 180, 300)]
    assert found[1].idle_us == 120 * SECOND
    assert found[1].active_us == 0


def test_idle_of_119_seconds_is_absorbed():
    evidence = [seen(0, 60), seen(60, 119, idle=True), seen(180, 120)]
    assert outline(sessions(evidence)) == [("active", 0, 300)]
    assert active_seconds(timeline(evidence)) == 300


def test_late_bridge_joins_two_sessions_and_says_so():
    stored = [seen(0, 60), seen(600, 60)]
    before = sessions(stored)
    assert len(before) == 2
    after = sessions([*stored, seen(300, 60)])
    assert outline(after) == [("active", 0, 660)]
    updated, removed = diff(before, after)
    assert updated == after
    assert [one.id for one in updated] == [before[0].id]
    assert removed == [before[1]]


def test_nested_events_of_one_source_resume_the_outer_one():
    a, b = page("https://a.example/"), page("https://b.example/")
    blocks = timeline([seen(0, 100, a), seen(10, 5, b), seen(50, 5, a)])
    slices = [(s.facets, s.start_us - T0, s.end_us - T0) for s in blocks[0].slices]
    assert slices == [
        (a, 0, 10 * SECOND),
        (b, 10 * SECOND, 15 * SECOND),
        (a, 15 * SECOND, 100 * SECOND),
    ]


AWAY = [
    seen(0, 600, VSCODE, idle=None, source="window"),
    afk(0, 200, idle=False),
    afk(200, 600, idle=True),
]


def test_away_from_a_window_is_idle():
    assert outline(sessions(AWAY)) == [("active", 0, 200), ("idle", 200, 600)]


def test_video_keeps_its_watcher_present():
    video = seen(0, 600, page("https://youtube.com/watch", app=""), source="web")
    assert outline(sessions([*AWAY, video])) == [("active", 0, 600)]


def test_devices_share_the_clock_and_the_latest_start_owns_it():
    phone = seen(1800, 900, SLACK, device="phone")
    blocks = timeline([seen(0, 3600, VSCODE), phone])
    assert owners(blocks) == [
        ("Visual Studio Code", 0, 1800),
        ("Slack", 1800, 2700),
        ("Visual Studio Code", 2700, 3600),
    ]
    assert active_seconds(blocks) == 3600
    assert {device for one in blocks[0].sessions for device in one.devices} == {"laptop", "phone"}


def test_flick_is_an_interruption():
    [session] = sessions([seen(0, 600, VSCODE), seen(600, 40, SLACK), seen(640, 600, VSCODE)])
    assert (session.category, session.interruptions) == ("development", 1)
    assert session.active_us == 1240 * SECOND
    assert session.apps == ("Visual Studio Code", "Slack")


def test_switch_makes_three_sessions():
    found = sessions([seen(0, 600, VSCODE), seen(600, 300, SLACK), seen(900, 600, VSCODE)])
    assert [(one.category, one.interruptions) for one in found] == [
        ("development", 0),
        ("communication", 0),
        ("development", 0),
    ]
    assert outline(found) == [("active", 0, 600), ("active", 600, 900), ("active", 900, 1500)]


def test_watchers_that_overlap_dirtily_are_a_union():
    evidence = [
        seen(0, 600, VSCODE, idle=None, source="window"),
        *(afk(10 * i, 10 * i + 35, idle=False) for i in range(20)),
        afk(190, 400, idle=True),
        afk(150, 600, idle=True),
    ]
    found = sessions(evidence)
    assert outline(found) == [("active", 0, 225), ("idle", 225, 600)]
    assert found[0].app == "Visual Studio Code"


def test_presence_without_attributes_is_active_time_of_nobody_knows_what():
    [session] = sessions([seen(0, 60, NOTHING)])
    assert (session.active_us, session.app, session.apps) == (60 * SECOND, "", ())


def test_nothing_gives_nothing():
    assert timeline([]) == []
    assert timeline([seen(0, 0)]) == []


def test_ids_depend_on_user_kind_and_start_only():
    short, long = sessions([seen(0, 60)]), sessions([seen(0, 90, SLACK)])
    assert short[0].id == long[0].id
    assert short[0].id == session_id(USER, Kind.ACTIVE, T0)
    assert short[0].id != session_id(USER, Kind.IDLE, T0)
    assert short[0].id != session_id(USER, Kind.ACTIVE, T0 + 1)


def test_idle_samples_with_silences_between_are_one_stretch_that_counts_evidence_only():
    evidence = [seen(6 * i, 5, NOTHING, idle=True) for i in range(50)]
    [session] = sessions(evidence)
    assert outline([session]) == [("idle", 0, 299)]
    assert (session.idle_us, session.active_us) == (250 * SECOND, 0)
    assert session.devices == ("laptop",)


def test_idle_samples_hours_apart_are_no_stretch():
    assert sessions([seen(0, 5, idle=True), seen(10_800, 5, idle=True)]) == []


def test_a_short_idle_stretch_at_the_end_of_activity_counts_for_nothing():
    evidence = [seen(0, 60), seen(60, 100, idle=True), seen(200, 60)]
    assert outline(sessions(evidence)) == [("active", 0, 260)]
    assert active_seconds(timeline(evidence)) == 120


def test_silence_up_to_thirty_seconds_is_shared_by_its_neighbours():
    filled = timeline([seen(0, 60, VSCODE), seen(90, 60, SLACK)])
    assert owners(filled) == [("Visual Studio Code", 0, 75), ("Slack", 75, 150)]
    apart = timeline([seen(0, 60, VSCODE), seen(91, 60, SLACK)])
    assert owners(apart) == [("Visual Studio Code", 0, 60), ("Slack", 91, 151)]


@pytest.mark.parametrize(
    ("before", "after", "seconds"), [(30, 30, 280), (31, 30, 120), (30, 31, 120)]
)
def test_short_idleness_is_absorbed_when_activity_is_within_thirty_seconds_on_both_sides(
    before, after, seconds
):
    resumed = 60 + before + 100 + after
    evidence = [seen(0, 60), seen(60 + before, 100, idle=True), seen(resumed, 60)]
    assert len(sessions(evidence)) == 1
    assert active_seconds(timeline(evidence)) == seconds


def test_an_interruption_between_equally_long_neighbours_joins_the_earlier():
    research = page("https://docs.python.org/3/")
    found = sessions([seen(0, 600, VSCODE), seen(600, 40, SLACK), seen(640, 600, research)])
    assert outline(found) == [("active", 0, 640), ("active", 640, 1240)]
    assert [one.category for one in found] == ["development", "research"]


def test_a_short_head_joins_what_follows():
    [session] = sessions([seen(0, 40, SLACK), seen(40, 600, VSCODE)])
    assert (session.category, session.interruptions) == ("development", 1)
