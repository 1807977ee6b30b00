"""What editor heartbeats are worth; vectors of Wakapi's duration_test.go (§4.6 of the reference)."""

import pytest

from services.sessions.domain import Facets, Rules
from tests.unit.sessions.scenes import (
    SECOND,
    active_seconds,
    afk,
    beat,
    outline,
    owners,
    seen,
    sessions,
    timeline,
)

GOLAND = Facets(app="GoLand", file="/src/main.go", project="wakapi")
VSCODE = Facets(app="vscode", file="/src/main.go", project="wakapi")
HEARTBEATS = [
    *(beat(at, GOLAND) for at in (0, 30, 30, 160)),
    *(beat(at, VSCODE) for at in (180, 190, 195)),
]


def worth(timeout_seconds: float) -> list[tuple[str, float, float]]:
    rules = Rules(point_timeout_us=round(timeout_seconds * SECOND))
    return owners(timeline(HEARTBEATS, rules))


@pytest.mark.parametrize("timeout", [60, 120, 130])
def test_time_between_heartbeats_belongs_to_the_earlier_one(timeout):
    assert worth(timeout) == [("GoLand", 0, 30), ("GoLand", 160, 180), ("vscode", 180, 195)]


@pytest.mark.parametrize("timeout", [140, 900])
def test_a_longer_timeout_bridges_the_pause(timeout):
    assert worth(timeout) == [("GoLand", 0, 180), ("vscode", 180, 195)]


@pytest.mark.parametrize(("timeout", "seconds"), [(600, 200), (120, 20)])
def test_gaps_of_ten_seconds_three_minutes_and_ten_seconds(timeout, seconds):
    heartbeats = [beat(at, GOLAND) for at in (0, 10, 190, 200)]
    rules = Rules(point_timeout_us=timeout * SECOND)
    assert active_seconds(timeline(heartbeats, rules)) == seconds


def test_an_isolated_point_is_worth_nothing():
    assert timeline([beat(0, GOLAND), beat(900, GOLAND)]) == []
    assert timeline([beat(0, GOLAND), beat(0, VSCODE)]) == []


def test_points_of_other_sources_and_devices_do_not_follow_one_another():
    assert timeline([beat(0, GOLAND), beat(60, GOLAND, source="vim")]) == []
    assert timeline([beat(0, GOLAND), beat(60, GOLAND, device="phone")]) == []


def test_the_time_of_a_point_yields_to_a_watcher_that_saw_nobody():
    evidence = [beat(0, GOLAND), beat(600, GOLAND), beat(610, GOLAND), afk(100, 600, idle=True)]
    assert outline(sessions(evidence)) == [
        ("active", 0, 100),
        ("idle", 100, 600),
        ("active", 600, 610),
    ]


def test_an_editor_is_closer_than_its_window():
    window = seen(0, 60, Facets(app="Code", title="main.go"), idle=None, source="window")
    [session] = sessions([window, beat(0, GOLAND), beat(40, GOLAND)])
    assert (session.app, session.project, session.apps) == ("GoLand", "wakapi", ("GoLand", "Code"))
