"""What sources say: an interval or an instant of one device, with whatever attributes they know."""

from enum import IntEnum
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec

from chassis.errors import Invalid

MANUAL_SOURCE = "manual"
"""Source name of entries a person typed in."""


class Facets(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """What was in front of the person; an empty string means the source did not say.

    Sources repeat themselves, so share one object between events that say the same.
    """

    app: str = ""
    """Name or bundle id."""
    title: str = ""
    url: str = ""
    domain: str = ""
    """Host name of `url` without `www.`, in lower case."""
    project: str = ""
    file: str = ""
    language: str = ""
    hint: str = ""
    """Category the source suggests; used when no rule matches."""


NOTHING = Facets()
"""What an idle watcher knows about the foreground."""


class Rank(IntEnum):
    """How closely a source looks; the closer wins an instant (sessionization.md, step 3)."""

    OTHER = 0
    WINDOW = 1
    WEB = 2
    EDITOR = 3
    MANUAL = 4


class Evidence(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One stored event of one user; build it with `sample` or `point`.

    `end_us` equals `start_us` for points. `idle`: True is no input seen, False is input seen (or
    sound), None is a source that can't tell.
    """

    event_id: bytes = b""
    device: str
    source: str
    start_us: int
    end_us: int
    facets: Facets
    rank: Rank
    idle: bool | None
    is_point: bool


def sample(
    device: str,
    source: str,
    start_us: int,
    duration_us: int,
    *,
    facets: Facets = NOTHING,
    idle: bool | None = None,
    event_id: bytes = b"",
) -> Evidence:
    """Evidence whose duration covers the time; a duration of 0 is worth nothing.

    Raises:
        Invalid: the duration is negative.
    """
    if duration_us < 0:
        raise Invalid.field("duration_us", "must not be negative")
    return Evidence(
        event_id=event_id,
        device=device,
        source=source,
        start_us=start_us,
        end_us=start_us + duration_us,
        facets=facets,
        rank=rank_of(source, facets, is_point=False),
        idle=idle,
        is_point=False,
    )


def point(
    device: str,
    source: str,
    at_us: int,
    *,
    facets: Facets = NOTHING,
    idle: bool | None = None,
    event_id: bytes = b"",
) -> Evidence:
    """An instant that proves work around it, such as an editor heartbeat.

    With `idle` None the time it is worth yields to a watcher that saw no input.
    """
    return Evidence(
        event_id=event_id,
        device=device,
        source=source,
        start_us=at_us,
        end_us=at_us,
        facets=facets,
        rank=rank_of(source, facets, is_point=True),
        idle=idle,
        is_point=True,
    )


def rank_of(source: str, facets: Facets, *, is_point: bool) -> Rank:
    """Manual entries by source name, the others by what they know."""
    if source == MANUAL_SOURCE:
        return Rank.MANUAL
    if is_point or facets.file or facets.language:
        return Rank.EDITOR
    if facets.url or facets.domain:
        return Rank.WEB
    if facets.project:
        return Rank.EDITOR
    if facets.app or facets.title:
        return Rank.WINDOW
    return Rank.OTHER


@lru_cache(maxsize=65_536)
def domain_of(url: str) -> str:
    """Host name without `www.` and port, in lower case; empty when the text is no address."""
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.").rstrip(".")
