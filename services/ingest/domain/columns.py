"""Events side by side: entry i of every list belongs to event i.

A request stays in columns from the wire to the INSERT, because one object per event would cost
more than everything else that is done with it.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple, TypeVar

import msgspec

Entry = TypeVar("Entry")

# Bits of ActivityColumns.flags.
ACTIVE: Final = 1
IDLE: Final = 2
POINT: Final = 4
CLAMPED: Final = 8
REMOVED: Final = 16


class Texts(NamedTuple):
    """What events say; a list is empty where no event of the batch says anything."""

    app: list[str]
    title: list[str]
    url: list[str]
    project: list[str]
    file: list[str]
    language: list[str]
    category: list[str]
    data: list[str]
    """JSON objects in canonical form (documents.py), or ""."""


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """n ≥ 0 admitted events; every list has n entries, except those that say they may be empty.

    Instants are microseconds since the Unix epoch in whole milliseconds, and `start ≤ end`.
    """

    ids: list[bytes]
    """16 bytes each."""
    start_us: list[int]
    end_us: list[int]
    claimed_end_us: list[int]
    """Ends as they were reported; empty when none of the batch was clamped."""
    flags: list[int]
    texts: Texts

    def __len__(self) -> int:
        return len(self.start_us)

    @property
    def characters(self) -> int:
        """What the texts come to."""
        return sum(sum(map(len, column)) for column in self.texts)

    @property
    def claims(self) -> list[int]:
        """The end that each event was reported to have, clamped or not."""
        return self.claimed_end_us or self.end_us

    def take(self, indexes: Sequence[int]) -> "Columns":
        """The events at `indexes`, which ascend; itself when that is all of them."""
        if len(indexes) == len(self):
            return self
        return Columns(
            ids=[self.ids[i] for i in indexes],
            start_us=[self.start_us[i] for i in indexes],
            end_us=[self.end_us[i] for i in indexes],
            claimed_end_us=taken(self.claimed_end_us, indexes),
            flags=[self.flags[i] for i in indexes],
            texts=Texts(*(taken(column, indexes) for column in self.texts)),
        )


def taken(column: list[Entry], indexes: Sequence[int]) -> list[Entry]:
    """The entries at `indexes` of a column that may be empty."""
    return [column[i] for i in indexes] if column else []


def joined(batches: Sequence[Columns]) -> Columns:
    """All events of n ≥ 1 batches, in order."""
    if len(batches) == 1:
        return batches[0]
    was_clamped = any(batch.claimed_end_us for batch in batches)
    sizes = [len(batch) for batch in batches]
    same_texts = zip(*(batch.texts for batch in batches), strict=True)
    return Columns(
        ids=_chained(batch.ids for batch in batches),
        start_us=_chained(batch.start_us for batch in batches),
        end_us=_chained(batch.end_us for batch in batches),
        claimed_end_us=_chained(batch.claims for batch in batches) if was_clamped else [],
        flags=_chained(batch.flags for batch in batches),
        texts=Texts(*(_filled(lists, sizes) for lists in same_texts)),
    )


def _chained(lists: Iterable[list[Entry]]) -> list[Entry]:
    return list(chain.from_iterable(lists))


def _filled(lists: Sequence[list[str]], sizes: Sequence[int]) -> list[str]:
    if not any(lists):
        return []
    return _chained(one or [""] * size for one, size in zip(lists, sizes, strict=True))
