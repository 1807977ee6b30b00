"""Sessions: what people are told about a run of slices or a stretch of idleness (step 7)."""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from uuid import UUID, uuid5

import msgspec

from services.sessions.domain.evidence import Facets
from services.sessions.domain.intervals import total
from services.sessions.domain.places import place_of
from services.sessions.domain.presence import IdleStretch
from services.sessions.domain.slices import Slice

MAX_CONTEXTS = 10
"""The specification's bound."""
MAX_APPS = 50
"""A session with more apps is a list nobody reads."""


class Kind(StrEnum):
    """Whether somebody was there."""

    ACTIVE = "active"
    IDLE = "idle"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session; equal values mean that nothing a subscriber sees has changed."""

    id: UUID
    """UUIDv5 of user, kind and start: recomputing gives the same."""
    kind: Kind
    start_us: int
    end_us: int
    active_us: int = 0
    """Time covered by slices; 0 for idle."""
    idle_us: int = 0
    """Time covered by idle evidence, never silence; 0 for active."""
    category: str = ""
    """Empty when unknown, like `app`, `domain` and `project`, which are those with most time."""
    app: str = ""
    domain: str = ""
    project: str = ""
    apps: tuple[str, ...] = ()
    """Most time first, at most 50."""
    contexts: tuple[str, ...] = ()
    """Names of repositories, channels, documents and sites, most time first, at most 10."""
    context_switches: int = 0
    interruptions: int = 0
    """Runs of another category that were too short to count."""
    devices: tuple[str, ...] = ()
    """Sorted."""


def session_id(user_id: UUID, kind: Kind, start_us: int) -> UUID:
    """The identity of a session, however often it is derived."""
    return uuid5(user_id, f"{kind}:{start_us}")


def active_session(user_id: UUID, category: str, slices: Sequence[Slice]) -> Session:
    """The session made of neighbouring slices, n ≥ 1, sorted."""
    time_by_facets: dict[Facets, int] = {}
    for piece in slices:
        spent = piece.end_us - piece.start_us
        time_by_facets[piece.facets] = time_by_facets.get(piece.facets, 0) + spent
    apps = _ranked(time_by_facets, attrgetter("app"))
    return Session(
        id=session_id(user_id, Kind.ACTIVE, slices[0].start_us),
        kind=Kind.ACTIVE,
        start_us=slices[0].start_us,
        end_us=slices[-1].end_us,
        active_us=sum(time_by_facets.values()),
        category=category,
        app=apps[0] if apps else "",
        domain=_dominant(time_by_facets, attrgetter("domain")),
        project=_dominant(time_by_facets, attrgetter("project")),
        apps=tuple(apps[:MAX_APPS]),
        contexts=_contexts(time_by_facets),
        context_switches=context_switches(slices),
        interruptions=_interruptions(category, slices),
        devices=tuple(sorted({piece.device for piece in slices})),
    )


def idle_session(user_id: UUID, stretch: IdleStretch, devices: Iterable[str]) -> Session:
    """The session of an idle stretch and the devices that reported it."""
    return Session(
        id=session_id(user_id, Kind.IDLE, stretch.start_us),
        kind=Kind.IDLE,
        start_us=stretch.start_us,
        end_us=stretch.end_us,
        idle_us=total(stretch.runs),
        devices=tuple(sorted(devices)),
    )


def context_switches(slices: Sequence[Slice]) -> int:
    """Changes of app or domain between neighbours; slices that know neither are passed over."""
    switches = 0
    before: tuple[str, str] | None = None
    for piece in slices:
        now = (piece.facets.app, piece.facets.domain)
        if now == ("", ""):
            continue
        if before is not None and now != before:
            switches += 1
        before = now
    return switches


def _interruptions(category: str, slices: Sequence[Slice]) -> int:
    return sum(found != category for found, _ in groupby(slices, lambda piece: piece.category))


def _ranked(time_by_facets: dict[Facets, int], name_of: Callable[[Facets], str]) -> list[str]:
    """Known names, most time first, equals by name."""
    spent: dict[str, int] = {}
    for facets, microseconds in time_by_facets.items():
        name = name_of(facets)
        if name:
            spent[name] = spent.get(name, 0) + microseconds
    return sorted(spent, key=lambda name: (-spent[name], name))


def _dominant(time_by_facets: dict[Facets, int], name_of: Callable[[Facets], str]) -> str:
    return next(iter(_ranked(time_by_facets, name_of)), "")


def _contexts(time_by_facets: dict[Facets, int]) -> tuple[str, ...]:
    """Names that differ only in case are one, spelled as the one with more time."""
    names = _ranked(time_by_facets, _place_name)
    first_spelling: dict[str, str] = {}
    for name in names:
        first_spelling.setdefault(name.casefold(), name)
    return tuple(first_spelling.values())[:MAX_CONTEXTS]


def _place_name(facets: Facets) -> str:
    place = place_of(facets)
    return place.name if place else ""
