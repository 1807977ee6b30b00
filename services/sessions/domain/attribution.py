"""Who owns an instant: a sweep over each block that gives every moment to one claim (step 3).

Three sweeps, each over fewer and stronger claims: within a source the latest start wins and the
outer claim resumes; within a device the most specific source wins; across devices the latest start
wins. Only evidence from `session_gap` before a block to its end is looked at, so that evidence
added further away can't change the block. A claim that began earlier counts as begun there; of
equals the one that ends first is the inner one.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter

import msgspec

from services.sessions.domain.apps import app_key, is_browser
from services.sessions.domain.evidence import NOTHING, Facets, Rank
from services.sessions.domain.intervals import Interval, within
from services.sessions.domain.presence import states
from services.sessions.domain.strands import Strand, voices_of


class Claim(msgspec.Struct, frozen=True, gc=False):
    """One run of one source, as a block sees it."""

    start_us: int
    end_us: int
    facets: Facets
    rank: Rank
    device: str
    source: str
    is_away: bool = False
    """Its device reports that nobody is there."""


Piece = tuple[int, int, Claim]
Track = list[Piece]
"""Sorted, disjoint pieces of time and the claim that owns each."""


def attribute(
    strands: Sequence[Strand], extents: Sequence[Interval], lookback_us: int
) -> list[Track]:
    """One track per block; covers every instant of the block that any evidence covers."""
    by_source = _claims(strands, extents, lookback_us)
    away = _away(strands)
    tracks: list[Track] = []
    for index, extent in enumerate(extents):
        by_device: dict[str, list[Track]] = {}
        for (device, _), claims in by_source.items():
            if claims[index]:
                by_device.setdefault(device, []).append(_latest(claims[index]))
        devices = {device: _combined(own, _foreground) for device, own in by_device.items()}
        if len(devices) == 1:
            tracks.extend(devices.values())
        else:
            lanes = [_marked(own, within(away[name], extent)) for name, own in devices.items()]
            tracks.append(_combined(lanes, lambda claims: max(claims, key=_strength)))
    return tracks


def _claims(
    strands: Sequence[Strand], extents: Sequence[Interval], lookback_us: int
) -> dict[tuple[str, str], list[list[Claim]]]:
    """Claims by source and block, sorted by start; a run that spans blocks claims in each."""
    states_told = {strand.idle for strand in strands}
    by_source: dict[tuple[str, str], list[tuple[int, int, Strand]]] = {}
    for voice in strands if len(states_told) == 1 else voices_of(strands):
        told = by_source.setdefault((voice.device, voice.source), [])
        told.extend([(start, end, voice) for start, end in voice.runs])
    return {source: _by_block(told, extents, lookback_us) for source, told in by_source.items()}


def _by_block(
    told: list[tuple[int, int, Strand]], extents: Sequence[Interval], lookback_us: int
) -> list[list[Claim]]:
    told.sort(key=itemgetter(0))
    blocks: list[list[Claim]] = [[] for _ in extents]
    first = 0
    for start, end, said in told:
        while first < len(extents) and extents[first][1] <= start:
            first += 1
        for at in range(first, len(extents)):
            opens, closes = extents[at]
            if opens >= end:
                break
            began, until = max(start, opens - lookback_us), min(end, closes)
            claim = Claim(began, until, said.facets, said.rank, said.device, said.source)
            blocks[at].append(claim)
    return blocks


def _latest(claims: list[Claim]) -> Track:
    """The sweep within one source: a later claim interrupts, an earlier one resumes."""
    if all(before.end_us <= after.start_us for before, after in pairwise(claims)):
        return [(claim.start_us, claim.end_us, claim) for claim in claims]
    claims.sort(key=lambda claim: (claim.start_us, -claim.end_us, claim.facets, claim.rank))
    track: Track = []
    open_claims: list[Claim] = []
    cursor = claims[0].start_us

    def advance(until_us: int | None) -> None:
        nonlocal cursor
        while open_claims and (until_us is None or cursor < until_us):
            top = open_claims[-1]
            if top.end_us <= cursor:
                open_claims.pop()
                continue
            end = top.end_us if until_us is None else min(top.end_us, until_us)
            track.append((cursor, end, top))
            cursor = end

    for claim in claims:
        advance(claim.start_us)
        cursor = claim.start_us
        open_claims.append(claim)
    advance(None)
    return track


def _combined(tracks: list[Track], choose: Callable[[list[Claim]], Claim]) -> Track:
    """One track of several; `choose` gets the claims that cover a piece, n ≥ 1, in no order."""
    if len(tracks) == 1:
        return tracks[0]
    turns: list[tuple[int, int, Claim | None]] = []
    for lane, track in enumerate(tracks):
        turns.extend((end, lane, None) for _, end, _ in track)
        turns.extend((start, lane, claim) for start, _, claim in track)
    # The sort is stable and ends come before starts above, so a lane that goes on stays claimed.
    turns.sort(key=itemgetter(0))
    current: list[Claim | None] = [None] * len(tracks)
    combined: Track = []
    cursor = turns[0][0]
    for instant, lane, claim in turns:
        if instant > cursor:
            covering = [held for held in current if held is not None]
            if covering:
                combined.append((cursor, instant, choose(covering)))
            cursor = instant
        current[lane] = claim
    return combined


def _strength(claim: Claim) -> tuple[bool, bool, bool, int, int, Facets, str]:
    """Across devices: what a person typed in, who is there, who knows something, who came last."""
    return (
        claim.rank is Rank.MANUAL,
        not claim.is_away,
        claim.rank is not Rank.OTHER,
        claim.start_us,
        -claim.end_us,
        claim.facets,
        claim.device,
    )


def _recency(claim: Claim) -> tuple[int, int, Facets, str]:
    return claim.start_us, -claim.end_us, claim.facets, claim.source


def _foreground(claims: list[Claim]) -> Claim:
    """The most specific claim of one device; a page counts while its browser is in front."""
    stated = [claim for claim in claims if claim.rank >= Rank.EDITOR]
    if stated:
        return max(stated, key=lambda claim: (claim.rank, _recency(claim)))
    windows = [claim for claim in claims if claim.rank is Rank.WINDOW]
    pages = [claim for claim in claims if claim.rank is Rank.WEB]
    # Agents that report app and address in one event name the window as well.
    front = max(windows or [page for page in pages if page.facets.app], key=_recency, default=None)
    if front is None:
        return max(pages or claims, key=_recency)
    if front.rank is Rank.WINDOW and front.facets.app and not is_browser(front.facets.app):
        return front
    shown = [page for page in pages if _may_show(front.facets.app, page.facets.app)]
    if not shown:
        return front
    page = max(shown, key=_recency)
    return msgspec.structs.replace(
        page,
        start_us=max(page.start_us, front.start_us),
        end_us=min(page.end_us, front.end_us),
        facets=_merged(page.facets, front.facets),
    )


def _may_show(window_app: str, page_app: str) -> bool:
    """Whether a page may be a tab of a window, as far as their apps are known."""
    return not window_app or not page_app or app_key(window_app) == app_key(page_app)


@lru_cache(maxsize=16_384)
def _merged(page: Facets, window: Facets) -> Facets:
    """The page's attributes, and the window's where the page has none."""
    return Facets(
        *(getattr(page, name) or getattr(window, name) for name in Facets.__struct_fields__)
    )


def _away(strands: Iterable[Strand]) -> dict[str, list[Interval]]:
    """When each device says that nobody is there; asked for only when there are several."""
    by_device: dict[str, list[Strand]] = {}
    for strand in strands:
        by_device.setdefault(strand.device, []).append(strand)
    if len(by_device) == 1:
        return {}
    return {device: states(own)[1] for device, own in by_device.items()}


def _marked(track: Track, away: list[Interval]) -> Track:
    """The track of a device, its claims marked where the device says that nobody is there."""
    if not away:
        return track
    return _combined([track, [(start, end, _NOBODY) for start, end in away]], _absent)


_NOBODY = Claim(0, 0, NOTHING, Rank.OTHER, "", "")


def _absent(claims: list[Claim]) -> Claim:
    """Idle evidence is a claim itself, so where nobody is there the device's own claim is too."""
    own = next(claim for claim in claims if claim is not _NOBODY)
    return msgspec.structs.replace(own, is_away=len(claims) > 1)
