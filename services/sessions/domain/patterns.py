"""What stands out in a day: focus, switching, idle periods and distractions."""

from collections.abc import Sequence
from heapq import nsmallest

import msgspec

from services.sessions.domain.intervals import HOUR_US
from services.sessions.domain.portions import Portion
from services.sessions.domain.sessions import Kind

DISTRACTION = "distraction"
"""The category, with everything below it, that is no focus."""

MAX_HIGHLIGHTS = 10
"""The specification's bound on lists of patterns."""


class Highlight(msgspec.Struct, frozen=True):
    """A stretch worth pointing at."""

    start_us: int
    duration_us: int
    note: str
    """Category of a focus; category or app of the active session before the others, if any."""


class Patterns(msgspec.Struct, frozen=True, kw_only=True):
    """The day in a few numbers."""

    longest_focus: Highlight | None
    """The active session with most time that is not a distraction; None when there is none."""
    context_switch_rate: float
    """Context switches per active hour; 0.0 without activity."""
    peak_hour: int | None
    """Local hour with most activity that is not a distraction, the earliest of equals."""
    idle_periods: list[Highlight]
    """Longest first, at most ten."""
    distraction_blocks: list[Highlight]
    """Distraction sessions, longest first, at most ten."""


def is_distraction(category: str) -> bool:
    """Whether a hierarchical category is the distraction category or below it."""
    return category == DISTRACTION or category.startswith(f"{DISTRACTION}/")


def patterns_of(portions: Sequence[Portion], focus_by_hour: Sequence[int]) -> Patterns:
    """`portions`: of one day, in order. `focus_by_hour`: 24 hours without distractions."""
    focus: list[Highlight] = []
    idle: list[Highlight] = []
    distractions: list[Highlight] = []
    switches = active_us = 0
    before = ""
    for portion in portions:
        session = portion.session
        if session.kind is Kind.IDLE:
            idle.append(Highlight(portion.start_us, portion.idle_us, before))
            continue
        if is_distraction(session.category):
            distractions.append(Highlight(portion.start_us, portion.active_us, before))
        else:
            focus.append(Highlight(portion.start_us, portion.active_us, session.category))
        switches += portion.context_switches
        active_us += portion.active_us
        before = session.category or session.app
    return Patterns(
        longest_focus=next(iter(_longest(focus)), None),
        context_switch_rate=switches * HOUR_US / active_us if active_us else 0.0,
        peak_hour=max(range(24), key=focus_by_hour.__getitem__) if any(focus_by_hour) else None,
        idle_periods=_longest(idle),
        distraction_blocks=_longest(distractions),
    )


def _longest(highlights: Sequence[Highlight]) -> list[Highlight]:
    return nsmallest(MAX_HIGHLIGHTS, highlights, key=lambda one: (-one.duration_us, one.start_us))
