"""A second, slow reading of sessionization.md: one microsecond after the other, no cleverness.

Tests compare it with the engine. It shares nothing with it but the shapes of evidence and rules.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from services.sessions.domain import Categorize, Evidence, Facets, Rank, Rules
from services.sessions.domain.apps import app_key, is_browser

Key = tuple[str, str, Facets, Rank]  # device, source, what it says, how closely it looks


class Owned(NamedTuple):
    start: int
    end: int
    facets: Facets
    device: str


class Reading:
    """The timeline of a handful of events within a short stretch of microseconds."""

    def __init__(self, evidence: Sequence[Evidence], rules: Rules, categorize: Categorize) -> None:
        self.rules = rules
        self.categorize = categorize
        self.intervals = [
            interval for event in evidence for interval in self._interval(event, evidence)
        ]
        starts = [start for start, _, _ in self.intervals]
        ends = [end for _, end, _ in self.intervals]
        self.instants = range(min(starts, default=0) - 2, max(ends, default=0) + 2)
        self.said: dict[int, list[Evidence]] = {
            at: [event for start, end, event in self.intervals if start <= at < end]
            for at in self.instants
        }
        self.active = {at: self._is_active(at) for at in self.instants}
        self.idle = {at: bool(self.said[at]) and not self.active[at] for at in self.instants}

    def blocks(self) -> list[tuple[str, int, int]]:
        """Kind, start, end."""
        long, absorbed = self._idle_stretches()
        present = [at for at in self.instants if self.active[at] or at in absorbed]
        found: list[tuple[str, int, int]] = [("idle", start, end) for start, end in long]
        start = None
        for at, following in zip_longest(present, present[1:]):
            start = at if start is None else start
            if following is None or self._is_border(at + 1, following, long):
                found.append(("active", start, at + 1))
                start = None
        return sorted(found, key=lambda block: block[1])

    def owned(self) -> list[Owned]:
        """Every slice: who owns each instant, silences shared, equal neighbours joined."""
        _, absorbed = self._idle_stretches()
        slices: list[Owned] = []
        for kind, start, end in self.blocks():
            if kind == "idle":
                continue
            last: Owned | None = None
            for at in range(start, end):
                if not (self.active[at] or at in absorbed):
                    continue
                now = Owned(at, at + 1, *self._owner(at, start, end))
                if last and at - last.end <= self.rules.fill_gap_us:
                    border = (last.end + at) // 2
                    last, now = last._replace(end=border), now._replace(start=border)
                    slices[-1] = last
                    if last[2:] == now[2:]:
                        now = now._replace(start=last.start)
                        slices.pop()
                slices.append(now)
                last = now
        return slices

    def _interval(
        self, event: Evidence, evidence: Sequence[Evidence]
    ) -> list[tuple[int, int, Evidence]]:
        if not event.is_point:
            return [(event.start_us, event.end_us, event)] if event.end_us > event.start_us else []
        later = [
            other.start_us
            for other in evidence
            if other.is_point
            and (other.device, other.source) == (event.device, event.source)
            and other.start_us > event.start_us
        ]
        if not later or min(later) - event.start_us >= self.rules.point_timeout_us:
            return []
        return [(event.start_us, min(later), event)]

    def _is_active(self, at: int) -> bool:
        idle = {event.idle for event in self.said[at]}
        return False in idle or (None in idle and True not in idle)

    def _idle_stretches(self) -> tuple[list[tuple[int, int]], set[int]]:
        """The long ones, and the instants of those that count as activity."""
        long: list[tuple[int, int]] = []
        absorbed: set[int] = set()
        fill = self.rules.fill_gap_us
        for first, last in self._joined_idle():
            before = [at for at in range(self.instants[0], first) if self.active[at]]
            after = [at for at in range(last + 1, self.instants[-1]) if self.active[at]]
            limit = self.rules.idle_after_us
            is_near = bool(before) and first - (before[-1] + 1) <= fill
            if is_near:
                own = [
                    self.rules.own_idle_after_us(self.categorize(event.facets))
                    for event in self.said[before[-1]]
                ]
                limit = max((one for one in own if one is not None), default=limit)
            if last + 1 - first >= limit:
                long.append((first, last + 1))
            elif is_near and after and after[0] - (last + 1) <= fill:
                absorbed.update(at for at in range(first, last + 1) if self.idle[at])
        return long, absorbed

    def _joined_idle(self) -> list[tuple[int, int]]:
        """First and last instants of idleness, over short silences but never over activity."""
        stretches: list[tuple[int, int]] = []
        for at in (at for at in self.instants if self.idle[at]):
            if stretches:
                first, last = stretches[-1]
                is_parted = any(self.active[between] for between in range(last, at))
                if not is_parted and at - (last + 1) <= self.rules.fill_gap_us:
                    stretches[-1] = (first, at)
                    continue
            stretches.append((at, at))
        return stretches

    def _is_border(self, end: int, start: int, long: list[tuple[int, int]]) -> bool:
        holds_idle = any(end <= idle_start < start for idle_start, _ in long)
        return holds_idle or start - end > self.rules.session_gap_us

    def _owner(self, at: int, block_start: int, block_end: int) -> tuple[Facets, str]:
        by_device: dict[str, dict[str, set[Key]]] = {}
        for event in self.said[at]:
            key = (event.device, event.source, event.facets, event.rank)
            by_device.setdefault(event.device, {}).setdefault(event.source, set()).add(key)
        view = (block_start - self.rules.session_gap_us, block_end)
        winners = []
        for device, sources in by_device.items():
            told = [
                max((self._age(at, key, view), key) for key in keys) for keys in sources.values()
            ]
            age, (_, _, facets, rank) = self._front(told)
            is_away = {event.idle for event in self.said[at] if event.device == device} <= {
                True,
                None,
            }
            is_away = is_away and any(
                event.idle for event in self.said[at] if event.device == device
            )
            winners.append(
                ((rank is Rank.MANUAL, not is_away, rank is not Rank.OTHER, *age), facets, device)
            )
        _, facets, device = max(winners, key=lambda winner: (winner[0], winner[1], winner[2]))
        return facets, device

    def _age(self, at: int, key: Key, view: tuple[int, int]) -> tuple[int, int]:
        """When a run began and, earlier counting for more, when it ends."""

        def says(instant: int) -> bool:
            return any(
                (event.device, event.source, event.facets, event.rank) == key
                for event in self.said.get(instant, [])
            )

        start = end = at
        while says(start - 1):
            start -= 1
        while says(end):
            end += 1
        return max(start, view[0]), -min(end, view[1])

    def _front(self, told: list[tuple[tuple[int, int], Key]]) -> tuple[tuple[int, int], Key]:
        """The claim of one device; `told` is what each of its sources says."""

        def latest(rank: Rank) -> tuple[tuple[int, int], Key] | None:
            of_rank = [(age, key) for age, key in told if key[3] is rank]
            return max(of_rank, key=lambda one: (one[0], one[1][2], one[1][1]), default=None)

        for rank in (Rank.MANUAL, Rank.EDITOR):
            if (found := latest(rank)) is not None:
                return found
        window, web = latest(Rank.WINDOW), latest(Rank.WEB)
        if window is None:
            return self._tab_of_agent(told) or latest(Rank.OTHER) or told[0]
        app = window[1][2].app
        if web is None or (app and not is_browser(app)):
            return window
        return self._with_tab(told, window)

    def _tab_of_agent(
        self, told: list[tuple[tuple[int, int], Key]]
    ) -> tuple[tuple[int, int], Key] | None:
        pages = [one for one in told if one[1][3] is Rank.WEB]
        named = [one for one in pages if one[1][2].app]
        if not pages:
            return None
        if not named:
            return max(pages, key=lambda one: (one[0], one[1][2], one[1][1]))
        return self._with_tab(told, max(named, key=lambda one: (one[0], one[1][2], one[1][1])))

    def _with_tab(
        self, told: list[tuple[tuple[int, int], Key]], front: tuple[tuple[int, int], Key]
    ) -> tuple[tuple[int, int], Key]:
        (start, end), (device, source, facets, _) = front
        tabs = [
            one
            for one in told
            if one[1][3] is Rank.WEB
            and (
                not one[1][2].app or not facets.app or app_key(one[1][2].app) == app_key(facets.app)
            )
        ]
        if not tabs:
            return front
        (tab_start, tab_end), (_, _, tab, _) = max(
            tabs, key=lambda one: (one[0], one[1][2], one[1][1])
        )
        both = Facets(
            *(getattr(tab, name) or getattr(facets, name) for name in Facets.__struct_fields__)
        )
        return (max(start, tab_start), max(end, tab_end)), (device, source, both, Rank.WEB)
