"""The session engine: pure functions from evidence and rules to a user's time.

`derive` is the whole of design/sessionization.md; `affected`, `plan`, `rederive` and `diff` keep its
result up to date; `roll_up` reports a local day. Nothing here waits, reads a clock or does I/O
(time-zone data aside). Instants and durations are integers in microseconds, instants since the Unix
epoch; an empty string is what nobody knows.

evidence ── strands ─┬─ presence ────┬─ slices ── context ── sessions ── timeline ─┬─ incremental
rules, intervals     └─ attribution ─┘  categories (starter)  places               └─ days, patterns
"""

from services.sessions.domain.categories import Categorizer, CategoryRule, Field
from services.sessions.domain.days import Day, Share, roll_up
from services.sessions.domain.evidence import (
    MANUAL_SOURCE,
    NOTHING,
    Evidence,
    Facets,
    Rank,
    domain_of,
    point,
    sample,
)
from services.sessions.domain.incremental import (
    Change,
    Region,
    RegionCrossed,
    affected,
    diff,
    plan,
    rederive,
)
from services.sessions.domain.patterns import Highlight, Patterns
from services.sessions.domain.rules import Rules
from services.sessions.domain.sessions import Kind, Session, session_id
from services.sessions.domain.slices import Categorize, Slice
from services.sessions.domain.starter import STARTER_RULES
from services.sessions.domain.timeline import Block, derive, sessions_in, slices_in
from services.sessions.domain.zones import ZoneChange, ZoneHistory

__all__ = [
    "MANUAL_SOURCE",
    "NOTHING",
    "STARTER_RULES",
    "Block",
    "Categorize",
    "Categorizer",
    "CategoryRule",
    "Change",
    "Day",
    "Evidence",
    "Facets",
    "Field",
    "Highlight",
    "Kind",
    "Patterns",
    "Rank",
    "Region",
    "RegionCrossed",
    "Rules",
    "Session",
    "Share",
    "Slice",
    "ZoneChange",
    "ZoneHistory",
    "affected",
    "derive",
    "diff",
    "domain_of",
    "plan",
    "point",
    "rederive",
    "roll_up",
    "sample",
    "session_id",
    "sessions_in",
    "slices_in",
]
