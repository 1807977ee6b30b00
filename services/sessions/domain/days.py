"""One local day of one person, added up so that every breakdown gives the same total."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from operator import attrgetter

import msgspec

from services.sessions.domain.evidence import Facets
from services.sessions.domain.intervals import union
from services.sessions.domain.patterns import Patterns, is_distraction, patterns_of
from services.sessions.domain.portions import portions_of
from services.sessions.domain.slices import Slice
from services.sessions.domain.timeline import Block
from services.sessions.domain.zones import ZoneHistory, hours_in


class Share(msgspec.Struct, frozen=True):
    """Active time of one app, domain, category or project; the name is empty for the rest."""

    name: str
    active_us: int


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A report of one day; sessions that cross its borders count with their part."""

    date: date
    time_zone: str
    """IANA zone at the end of the day."""
    active_us: int
    idle_us: int
    """Time covered by the evidence of idle sessions."""
    session_count: int
    """Sessions of either kind with a part in the day."""
    by_hour: list[int]
    """24 local wall-clock hours in microseconds; an hour that repeats adds up."""
    by_app: list[Share]
    """Most time first, equals by name; like every breakdown it adds up to `active_us`."""
    by_domain: list[Share]
    by_category: list[Share]
    """By the category of slices, so that short interruptions count as what they were."""
    by_project: list[Share]
    patterns: Patterns


def roll_up(day: date, blocks: Iterable[Block], zones: ZoneHistory) -> Day:
    """Adds up one local date. `blocks`: in order, all that touch it; more are harmless."""
    segments = zones.span_of(day)
    portions = [portion for block in blocks for portion in portions_of(block, segments)]
    slices = [piece for portion in portions for piece in portion.slices]
    by_facets: dict[Facets, int] = {}
    by_category: dict[str, int] = {}
    for piece in slices:
        spent = piece.end_us - piece.start_us
        by_facets[piece.facets] = by_facets.get(piece.facets, 0) + spent
        by_category[piece.category] = by_category.get(piece.category, 0) + spent
    focus = [piece for piece in slices if not is_distraction(piece.category)]
    return Day(
        date=day,
        time_zone=zones.zone_on(day),
        active_us=sum(by_category.values()),
        idle_us=sum(portion.idle_us for portion in portions),
        session_count=len(portions),
        by_hour=_by_hour(slices, zones),
        by_app=_shares(by_facets, attrgetter("app")),
        by_domain=_shares(by_facets, attrgetter("domain")),
        by_category=_ranked(by_category),
        by_project=_shares(by_facets, attrgetter("project")),
        patterns=patterns_of(portions, _by_hour(focus, zones)),
    )


def _by_hour(slices: Sequence[Slice], zones: ZoneHistory) -> list[int]:
    """Walks hours, not slices: neighbours are joined first."""
    hours = [0] * 24
    for start, end in union((piece.start_us, piece.end_us) for piece in slices):
        for hour, spent in hours_in(zones, start, end):
            hours[hour] += spent
    return hours


def _shares(by_facets: dict[Facets, int], name_of: Callable[[Facets], str]) -> list[Share]:
    by_name: dict[str, int] = {}
    for facets, spent in by_facets.items():
        name = name_of(facets)
        by_name[name] = by_name.get(name, 0) + spent
    return _ranked(by_name)


def _ranked(by_name: dict[str, int]) -> list[Share]:
    ranked = sorted(by_name.items(), key=lambda item: (-item[1], item[0]))
    return [Share(name, spent) for name, spent in ranked]
