"""Appends that share one transaction, each with the answer it would have got alone.

The answers are those of the appends processed one after the other, in the order of the group:
an event is accepted when it is new or ends later than it was known to, else it is a duplicate.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple, NewType
from uuid import UUID

import msgspec

from services.ingest.domain.columns import Columns
from services.ingest.domain.identity import Chosen

Key = NewType("Key", bytes)
"""Identity of an event: organization, device and event id, 16 bytes each."""

Changes = Mapping[Key, int | None]
"""Events whose stored form changed, with the end claimed before; None for those that are new."""


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """One caller's admitted events: one source, one device, one person."""

    org_id: UUID
    user_id: UUID
    device_id: UUID
    source: str
    columns: Columns
    chosen: list[Chosen]
    received_us: int

    @property
    def scope(self) -> bytes:
        """What the caller's event ids are unique in."""
        return self.org_id.bytes + self.device_id.bytes


class Claim(NamedTuple):
    """The first report in a group of an id that a client chose, and the start it gave."""

    append: int
    chosen: Chosen
    start_us: int


class Answer(NamedTuple):
    """What became of one caller's admitted events."""

    accepted: int
    duplicates: int


class Outcome(NamedTuple):
    """The answers, and by append the indexes of the events whose stored form changed."""

    answers: list[Answer]
    changed: list[Sequence[int]]


class Plan(msgspec.Struct, frozen=True):
    """What to store for a group; lists are by append, entries are indexes of its events."""

    appends: Sequence[Append]
    in_place: list[Sequence[int]]
    """Events that have the start their identity is known by; the others are duplicates."""
    contenders: list[Sequence[int]]
    """Events to store, no identity twice: of several reports of one event the longest stands for
    all, the first of equals."""
    repeating: list[list[int]]
    """Appends of one device, wherever they name an event more than once."""


def claims(appends: Sequence[Append]) -> dict[Key, Claim]:
    """One claim for each id that a client chose, in the order of the group."""
    found: dict[Key, Claim] = {}
    for number, append in enumerate(appends):
        scope, columns = append.scope, append.columns
        for chosen in append.chosen:
            key = Key(scope + columns.ids[chosen.place])
            if key not in found:
                found[key] = Claim(number, chosen, columns.start_us[chosen.place])
    return found


def plan(appends: Sequence[Append], starts: Mapping[Key, int]) -> Plan:
    """Decides what goes to the store; `starts` has the true start of each id a client chose."""
    in_place: list[Sequence[int]] = [
        _in_place(append, starts) if starts else range(len(append.columns)) for append in appends
    ]
    contenders = list(in_place)
    repeating = _repeating(appends, in_place)
    for numbers in repeating:
        longest: dict[bytes, tuple[int, int, int]] = {}
        for number in numbers:
            ids, ends = appends[number].columns.ids, appends[number].columns.claims
            for index in in_place[number]:
                known = longest.get(ids[index])
                if known is None or ends[index] > known[0]:
                    longest[ids[index]] = (ends[index], number, index)
        kept: dict[int, list[int]] = {number: [] for number in numbers}
        for _, number, index in longest.values():
            kept[number].append(index)
        for number, indexes in kept.items():
            contenders[number] = sorted(indexes)
    return Plan(appends, in_place, contenders, repeating)


def _in_place(append: Append, starts: Mapping[Key, int]) -> Sequence[int]:
    scope, columns = append.scope, append.columns
    return [
        index
        for index, (event_id, start) in enumerate(zip(columns.ids, columns.start_us, strict=True))
        if starts.get(Key(scope + event_id), start) == start
    ]


def _repeating(appends: Sequence[Append], in_place: Sequence[Sequence[int]]) -> list[list[int]]:
    by_device: dict[bytes, list[int]] = {}
    for number, append in enumerate(appends):
        by_device.setdefault(append.scope, []).append(number)
    found = []
    for numbers in by_device.values():
        ids = [[appends[number].columns.ids[i] for i in in_place[number]] for number in numbers]
        if len(set(chain.from_iterable(ids))) < sum(map(len, ids)):
            found.append(numbers)
    return found


def settle(plan: Plan, changes: Changes | None) -> Outcome:
    """The answers, once the store has said what changed; None says that every contender is new."""
    changed: list[Sequence[int]] = list(plan.contenders)
    if changes is not None:
        pairs = zip(plan.appends, plan.contenders, strict=True)
        changed = [_changed(append, indexes, changes) for append, indexes in pairs]
    accepted = [len(indexes) for indexes in changed]
    for numbers in plan.repeating:
        ends: dict[Key, int | None] = {}
        for number in numbers:
            append = plan.appends[number]
            scope, ids, claimed = append.scope, append.columns.ids, append.columns.claims
            accepted[number] = sum(
                _is_progress(Key(scope + ids[index]), claimed[index], ends, changes)
                for index in plan.in_place[number]
            )
    answers = [
        Answer(count, len(append.columns) - count)
        for append, count in zip(plan.appends, accepted, strict=True)
    ]
    return Outcome(answers, changed)


def _changed(append: Append, indexes: Sequence[int], changes: Changes) -> list[int]:
    scope, ids = append.scope, append.columns.ids
    return [index for index in indexes if Key(scope + ids[index]) in changes]


def _is_progress(
    key: Key, claim: int, ends: dict[Key, int | None], changes: Changes | None
) -> bool:
    """Whether this report, coming after those in `ends`, is of a new event or a longer one."""
    if changes is not None and key not in changes:
        return False
    known = ends[key] if key in ends else (changes or {}).get(key)
    if known is not None and claim <= known:
        return False
    ends[key] = claim
    return True
