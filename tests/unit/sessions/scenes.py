"""Words in which the tests of the session engine speak: instants, sources and small worlds."""

import os
from collections.abc import Iterable, Sequence
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from services.sessions.domain import (
    NOTHING,
    STARTER_RULES,
    Block,
    Categorizer,
    Evidence,
    Facets,
    Kind,
    Rules,
    Session,
    derive,
    domain_of,
    point,
    sample,
    sessions_in,
)

PROPERTY = settings(
    max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "50")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""Decorates laws; PROPERTY_EXAMPLES=20000 makes a thorough night of it."""

USER = UUID("6f0c1f0e-6a53-4c1f-9d0c-4b5f6a4d7a11")
SECOND = 1_000_000
T0 = 1_768_790_100 * SECOND  # 2026-01-19T02:35:00Z
STARTER = Categorizer(STARTER_RULES)

VSCODE = Facets(app="Visual Studio Code", title="rules.py - timeloom - Visual Studio Code")
SLACK = Facets(app="Slack", title="#general - Acme - Slack")
MYSTERY = Facets(app="Mystery")


def page(url: str, app: str = "Firefox", title: str = "") -> Facets:
    return Facets(app=app, title=title, url=url, domain=domain_of(url))


FIREFOX = page("https://quiet.example/start")


def seen(
    start: float,
    seconds: float,
    facets: Facets = FIREFOX,
    *,
    idle: bool | None = False,
    device: str = "laptop",
    source: str = "agent",
) -> Evidence:
    """A sample, in seconds from T0."""
    started = T0 + round(start * SECOND)
    return sample(device, source, started, round(seconds * SECOND), facets=facets, idle=idle)


def afk(start: float, end: float, *, idle: bool, device: str = "laptop") -> Evidence:
    """What an idle watcher says from start to end."""
    return seen(start, end - start, NOTHING, idle=idle, device=device, source="afk")


def beat(at: float, facets: Facets, *, source: str = "editor", device: str = "laptop") -> Evidence:
    """An editor heartbeat."""
    return point(device, source, T0 + round(at * SECOND), facets=facets)


def timeline(evidence: Iterable[Evidence], rules: Rules | None = None) -> list[Block]:
    return derive(USER, evidence, rules or Rules(), STARTER)


def sessions(evidence: Iterable[Evidence], rules: Rules | None = None) -> list[Session]:
    return list(sessions_in(timeline(evidence, rules)))


def outline(found: Iterable[Session | Block]) -> list[tuple[str, float, float]]:
    """Kind, start and end in seconds from T0."""
    return [
        (one.kind.value, (one.start_us - T0) / SECOND, (one.end_us - T0) / SECOND) for one in found
    ]


def owners(blocks: Iterable[Block]) -> list[tuple[str, float, float]]:
    """App, start and end of each slice in seconds from T0; the domain where there is no app."""
    return [
        (
            piece.facets.app or piece.facets.domain,
            (piece.start_us - T0) / SECOND,
            (piece.end_us - T0) / SECOND,
        )
        for block in blocks
        for piece in block.slices
    ]


def active_seconds(blocks: Sequence[Block]) -> float:
    return sum(one.active_us for one in sessions_in(blocks) if one.kind is Kind.ACTIVE) / SECOND


# A world small enough to be checked microsecond by microsecond: every length is a few of them.

_SMALL_FACETS = (
    NOTHING,
    MYSTERY,
    Facets(app="Code"),
    Facets(app="Slack"),
    Facets(app="Firefox"),
    Facets(title="somewhere"),
    Facets(url="https://github.com/a", domain="github.com"),
    Facets(app="Firefox", url="https://youtube.com/", domain="youtube.com"),
    Facets(app="Vim", file="/src/a.py", project="a"),
)
_SMALL_SOURCES = (("d1", "one"), ("d1", "two"), ("d2", "one"), ("d2", "manual"))

small_rules = st.builds(
    Rules,
    session_gap_us=st.integers(6, 12),
    idle_after_us=st.integers(1, 9),
    idle_after_by_category_us=st.sampled_from(
        [{}, {}, {"development": 14}, {"communication": 2, "distraction": 7}]
    ),
    switch_after_us=st.integers(0, 9),
    fill_gap_us=st.integers(0, 5),
    point_timeout_us=st.integers(0, 12),
)


@st.composite
def small_evidence(draw: st.DrawFn, horizon: int = 70) -> Evidence:
    device, source = draw(st.sampled_from(_SMALL_SOURCES))
    start = draw(st.integers(0, horizon))
    facets = draw(st.sampled_from(_SMALL_FACETS))
    idle = draw(st.sampled_from([False, None, True]))
    if draw(st.integers(0, 4)) == 0:
        return point(device, source, start, facets=facets, idle=idle)
    duration = draw(st.integers(0, 15) | st.integers(0, horizon))
    return sample(device, source, start, duration, facets=facets, idle=idle)


small_worlds = st.lists(small_evidence(), max_size=14)
