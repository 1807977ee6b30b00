"""What the sessions store does with the engine, in memory."""

from collections.abc import Iterable, Sequence

from services.sessions.domain import Block, Evidence, Rules, affected, derive, plan, rederive
from tests.unit.sessions.scenes import STARTER, USER


class Shelf:
    """Keeps evidence and blocks, and derives only from the evidence it is told to read."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.evidence: list[Evidence] = []
        self.blocks: list[Block] = []
        self.replaced = 0

    def change(self, added: Iterable[Evidence], removed: Sequence[Evidence]) -> None:
        added = list(added)
        self.evidence = [one for one in self.evidence if one not in removed] + added
        spans = affected([*added, *removed], self.rules)
        extents = [(one.start_us, one.end_us) for one in self.blocks]
        touching = [
            (start, end)
            for start, end in extents
            if any(lo <= end and start <= hi for lo, hi in spans)
        ]
        for region in plan(spans, touching, self.rules):
            loaded = [
                one
                for one in self.evidence
                if one.start_us <= region.load_end_us and region.load_start_us <= one.end_us
            ]
            fresh = rederive(USER, region, loaded, self.rules, STARTER)
            kept = [one for one in self.blocks if not region.holds(one.start_us, one.end_us)]
            self.replaced += len(self.blocks) - len(kept)
            self.blocks = sorted(kept + fresh, key=lambda block: block.start_us)

    def batch(self) -> list[Block]:
        return derive(USER, self.evidence, self.rules, STARTER)
