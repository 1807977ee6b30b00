"""Where the work changed for good, and where it was only interrupted (step 6)."""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import groupby, pairwise

from services.sessions.domain.slices import Slice


class Run:
    """Neighbouring slices that count as one context; absorption merges runs in place."""

    __slots__ = ("active_us", "by_category", "category", "first", "last", "left", "right")

    def __init__(self, category: str, active_us: int, first: int, last: int) -> None:
        self.category = category
        self.active_us = active_us
        self.by_category = {category: active_us}
        self.first = first  # Index of its first slice,
        self.last = last  # and of the first slice after it.
        self.left: Run | None = None
        self.right: Run | None = None

    def absorb_right(self, other: "Run") -> None:
        """Take in the next run; the category with most active time wins, the earlier of equals."""
        for category, active_us in other.by_category.items():
            self.by_category[category] = self.by_category.get(category, 0) + active_us
        self.category = max(self.by_category, key=self.by_category.__getitem__)
        self.active_us += other.active_us
        other.active_us = 0  # Its entry in the queue is void now.
        self.last = other.last
        self.right = other.right
        if self.right:
            self.right.left = self


def contexts_of(slices: Sequence[Slice], switch_after_us: int) -> list[Run]:
    """Runs of a block in order, each of `switch_after_us` or more unless it is the only one."""
    runs = _equal_runs(slices)
    for left, right in pairwise(runs):
        left.right, right.left = right, left
    # Shortest first, the earliest of equals; an entry is void once its run has grown.
    queue = [(run.active_us, run.first, run) for run in runs if run.active_us < switch_after_us]
    heapify(queue)
    while queue:
        active_us, _, run = heappop(queue)
        if active_us != run.active_us or not (run.left or run.right):
            continue
        merged = _joined_with_equals(_absorbed(run))
        if merged.active_us < switch_after_us:
            heappush(queue, (merged.active_us, merged.first, merged))
    contexts: list[Run] = []
    current: Run | None = runs[0]
    while current:
        contexts.append(current)
        current = current.right
    return contexts


def _equal_runs(slices: Sequence[Slice]) -> list[Run]:
    runs: list[Run] = []
    first = 0
    for category, same in groupby(slices, key=lambda piece: piece.category):
        lengths = [piece.end_us - piece.start_us for piece in same]
        runs.append(Run(category, sum(lengths), first, first + len(lengths)))
        first += len(lengths)
    return runs


def _absorbed(run: Run) -> Run:
    """Merge a run into both neighbours if they agree, else the longer, the earlier of equals."""
    left, right = run.left, run.right
    if left and right and left.category == right.category:
        left.absorb_right(run)
        left.absorb_right(right)
        return left
    if left and (right is None or left.active_us >= right.active_us):
        left.absorb_right(run)
        return left
    if right:
        run.absorb_right(right)
    return run


def _joined_with_equals(run: Run) -> Run:
    while run.left and run.left.category == run.category:
        run.left.absorb_right(run)
        run = run.left
    while run.right and run.right.category == run.category:
        run.absorb_right(run.right)
    return run
