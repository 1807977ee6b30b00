"""Which reported events can be kept. A bad one never costs its neighbours their place.

Every rule first looks at a whole column at once; only when something is wrong in it does it ask
which events are at fault.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from chassis.clock import MICROSECONDS, to_datetime
from chassis.errors import Invalid, Violation
from services.ingest.domain.columns import ACTIVE, CLAMPED, IDLE, POINT, Columns, Texts, taken
from services.ingest.domain.documents import canonical
from services.ingest.domain.identity import Chosen, identify

Entry = TypeVar("Entry")

MAX_EVENTS: Final = 5000
MAX_NAME_CHARACTERS: Final = 200
# Room for what real programs put there, and no event can outgrow a bus message.
MAX_CHARACTERS: Final = {
    "app": 512,
    "title": 4096,
    "url": 8192,
    "project": 512,
    "file": 4096,
    "language": 128,
    "category": 256,
    "data": 65_536,
}
MILLISECOND_US: Final = 1000
# A device clock that runs ahead by more than this is wrong, not fast (sessionization.md, step 1).
AHEAD_US: Final = 300 * MICROSECONDS
# Longer than any activity; it bounds how far back a reader looks for what reaches into a range.
MAX_DURATION_US: Final = 31 * 86_400 * MICROSECONDS
YEAR_2000_US: Final = 946_684_800 * MICROSECONDS


class Window(NamedTuple):
    """When events may be: not before `earliest_us`, hardly after `received_us`."""

    earliest_us: int
    received_us: int

    @property
    def latest_us(self) -> int:
        """The last millisecond at which an event may start or end."""
        return (self.received_us + AHEAD_US) // MILLISECOND_US * MILLISECOND_US


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """Events as an agent sent them. Lists other than `start_us` may be empty: none says anything."""

    names: list[str]
    """The client's own ids; "" where it gave none."""
    start_us: list[int]
    duration_us: list[int]
    flags: list[int]
    texts: Texts

    def __len__(self) -> int:
        return len(self.start_us)


class Rejection(NamedTuple):
    """An event that can't be kept, by its place in the request, and why."""

    place: int
    errors: list[Violation]


class Admission(NamedTuple):
    """What is kept, with identities, and what is not, by ascending index."""

    columns: Columns
    chosen: list[Chosen]
    rejected: list[Rejection]


def admit(source: str, reported: Reported, window: Window) -> Admission:
    """Sorts the good from the bad, rounds down to milliseconds, clamps ends and names events.

    Raises:
        Invalid: the columns don't fit one another, so no event is known for sure.
    """
    _require_shape(reported)
    data, wrong_data = _canonical_data(reported.texts.data)
    reported = msgspec.structs.replace(reported, texts=reported.texts._replace(data=data))
    faults = _faults(reported, window, wrong_data)
    rejected = [Rejection(index, faults[index]) for index in sorted(faults)]
    if rejected:
        reported = _without(reported, faults)
    return _settle(source, reported, window, rejected)


def _require_shape(reported: Reported) -> None:
    count = len(reported)
    if not 1 <= count <= MAX_EVENTS:
        raise Invalid.field("events", f"holds {count} events; 1 to {MAX_EVENTS} are taken at once")
    columns: dict[str, Sequence[object]] = {
        "client_ids": reported.names,
        "events.duration_us": reported.duration_us,
        "events.flags": reported.flags,
        **{f"events.{name}": column for name, column in reported.texts._asdict().items()},
    }
    for name, column in columns.items():
        if len(column) not in {0, count}:
            raise Invalid.field(name, f"has {len(column)} entries for {count} events")


def _canonical_data(data: list[str]) -> tuple[list[str], dict[int, str]]:
    if not any(data):
        return [], {}
    documents, wrong = [], {}
    for index, text in enumerate(data):
        try:
            documents.append(canonical(text))
        except ValueError as error:
            documents.append("")
            wrong[index] = str(error)
    return documents, wrong


def _faults(
    reported: Reported, window: Window, wrong_data: dict[int, str]
) -> dict[int, list[Violation]]:
    faults: dict[int, list[Violation]] = {}

    def blame(indexes: Iterable[int], field: str, message: str) -> None:
        for index in indexes:
            faults.setdefault(index, []).append(Violation(field, message))

    if max(map(len, reported.names), default=0) > MAX_NAME_CHARACTERS:
        blame(
            _where(reported.names, lambda name: len(name) > MAX_NAME_CHARACTERS),
            "id",
            f"has more than {MAX_NAME_CHARACTERS} characters",
        )
    _check_times(reported, window, blame)
    _check_flags(reported, blame)
    _check_texts(reported.texts, blame)
    for index, message in wrong_data.items():
        blame([index], "data", f"is not a JSON object that can be kept: {message}")
    return faults


Blame = Callable[[Iterable[int], str, str], None]


def _check_times(reported: Reported, window: Window, blame: Blame) -> None:
    starts, durations = reported.start_us, reported.duration_us
    if min(starts) < window.earliest_us:
        first = to_datetime(window.earliest_us).date()
        early = _where(starts, lambda start: start < window.earliest_us)
        blame(early, "start", f"is before {first}, the first day that is kept")
    if max(starts) > window.latest_us:
        late = _where(starts, lambda start: start > window.latest_us)
        blame(late, "start", "is more than 5 minutes ahead of the server's clock")
    if durations and min(durations) < 0:
        blame(_where(durations, lambda one: one < 0), "duration", "is negative")
    if durations and max(durations) > MAX_DURATION_US:
        long = _where(durations, lambda one: one > MAX_DURATION_US)
        blame(long, "duration", "is longer than 31 days")


def _check_flags(reported: Reported, blame: Blame) -> None:
    flags = reported.flags
    kinds = set(flags)
    if any(kind & ~(ACTIVE | IDLE | POINT) for kind in kinds):
        unknown = _where(flags, lambda one: bool(one & ~(ACTIVE | IDLE | POINT)))
        blame(unknown, "flags", "has bits that agents may not set")
    if any(kind & ACTIVE and kind & IDLE for kind in kinds):
        both = _where(flags, lambda one: bool(one & ACTIVE and one & IDLE))
        blame(both, "idle", "can't be both true and false")
    if reported.duration_us and any(kind & POINT for kind in kinds):
        pairs = list(zip(flags, reported.duration_us, strict=True))
        lasting = _where(pairs, lambda pair: bool(pair[0] & POINT and pair[1]))
        blame(lasting, "duration", "must be 0 for a point")


def _check_texts(texts: Texts, blame: Blame) -> None:
    for name, column in texts._asdict().items():
        limit = MAX_CHARACTERS[name]
        if column and len(max(column, key=len)) > limit:
            long = _where(column, lambda text: len(text) > limit)  # noqa: B023  # used at once
            blame(long, name, f"has more than {limit} characters")
        # PostgreSQL can't keep NUL, and identities rely on its absence.
        if "\0" in "".join(column):
            blame(_where(column, lambda text: "\0" in text), name, "holds a NUL character")


def _where(column: Sequence[Entry], is_at_fault: Callable[[Entry], bool]) -> list[int]:
    return [index for index, value in enumerate(column) if is_at_fault(value)]


def _without(reported: Reported, faults: dict[int, list[Violation]]) -> Reported:
    good = [index for index in range(len(reported)) if index not in faults]
    return Reported(
        names=taken(reported.names, good),
        start_us=taken(reported.start_us, good),
        duration_us=taken(reported.duration_us, good),
        flags=taken(reported.flags, good),
        texts=Texts(*(taken(column, good) for column in reported.texts)),
    )


def _settle(
    source: str, reported: Reported, window: Window, rejected: list[Rejection]
) -> Admission:
    start_us = [start - start % MILLISECOND_US for start in reported.start_us]
    flags = reported.flags or [0] * len(reported)
    ids, chosen = identify(source, start_us, flags, reported.texts, reported.names)
    claims = _claims(reported) if any(reported.duration_us) else start_us
    latest = window.latest_us
    if max(claims, default=0) <= latest:
        end_us, claimed = claims, []
    else:
        end_us, claimed = [min(claim, latest) for claim in claims], claims
        pairs = zip(flags, claims, strict=True)
        flags = [flag | CLAMPED if claim > latest else flag for flag, claim in pairs]
    columns = Columns(
        ids=ids,
        start_us=start_us,
        end_us=end_us,
        claimed_end_us=claimed,
        flags=flags,
        texts=reported.texts,
    )
    return Admission(columns, chosen, rejected)


def _claims(reported: Reported) -> list[int]:
    return [
        (start + duration) // MILLISECOND_US * MILLISECOND_US
        for start, duration in zip(reported.start_us, reported.duration_us, strict=True)
    ]
