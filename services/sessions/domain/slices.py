"""The pieces a timeline is made of: active time cut by who owns it (steps 3 and 4)."""

from collections.abc import Callable, Sequence

import msgspec

from services.sessions.domain.attribution import Track
from services.sessions.domain.evidence import Facets
from services.sessions.domain.intervals import Interval

Categorize = Callable[[Facets], str]
"""Gives the category of a set of attributes, empty when no rule knows them; must be pure."""


class Slice(msgspec.Struct, frozen=True, gc=False):
    """A stretch of active time with one set of attributes on one device."""

    start_us: int
    end_us: int
    facets: Facets
    category: str
    """After context was applied; empty when nothing in the block is known."""
    device: str

    @property
    def active_us(self) -> int:
        return self.end_us - self.start_us


def slices_of(track: Track, activity: Sequence[Interval], categorize: Categorize) -> list[Slice]:
    """Slices that cover the active stretches of a block exactly; neighbours differ or are apart."""
    cut = _cut(track, activity)
    categories = _inherited([categorize(facets) for _, _, facets, _ in cut])
    return [
        Slice(start, end, facets, category, device)
        for (start, end, facets, device), category in zip(cut, categories, strict=True)
    ]


def _cut(track: Track, activity: Sequence[Interval]) -> list[tuple[int, int, Facets, str]]:
    cut: list[tuple[int, int, Facets, str]] = []
    index = 0
    for lo, hi in activity:
        while track[index][1] <= lo:
            index += 1
        facets, device = track[index][2].facets, track[index][2].device
        begun = reached = lo
        while index < len(track) and track[index][0] < hi:
            start, end, claim = track[index]
            if claim.facets != facets or claim.device != device:
                # Silence inside an active stretch belongs half to each side.
                border = (reached + start) // 2
                cut.append((begun, border, facets, device))
                begun, facets, device = border, claim.facets, claim.device
            reached = end
            if end > hi:
                break
            index += 1
        cut.append((begun, hi, facets, device))
    return cut


def _inherited(known: list[str]) -> list[str]:
    """An unknown category is the one before it; at the head, the first known one."""
    current = next(filter(None, known), "")
    inherited = []
    for category in known:
        current = category or current
        inherited.append(current)
    return inherited
