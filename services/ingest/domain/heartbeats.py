"""Heartbeats: one after the other becomes one event as long as they say the same.

The rule is ActivityWatch's (heartbeat_merge of aw-core 0.5.18) with two differences. A heartbeat
joins the event before it in time, not the newest of all, so a late one makes no overlap. And it
reaches forward to the event after it, so the time covered is the same in whatever order
heartbeats arrive.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from services.ingest.domain.admission import MAX_DURATION_US
from services.ingest.domain.columns import POINT
from services.ingest.domain.events import Event, ending


def bucket_key(org_id: UUID, event: Event) -> str:
    """Tells the bucket of an event from every other one, and orders them."""
    return f"{org_id}/{event.device_id}/{event.source}"


class Beat(NamedTuple):
    """A heartbeat of somebody's bucket; `latest_us` is where ends are clamped."""

    org_id: UUID
    user_id: UUID
    event: Event
    pulse_us: int
    latest_us: int

    @property
    def bucket(self) -> str:
        """The key of its bucket."""
        return bucket_key(self.org_id, self.event)


class Neighbours(NamedTuple):
    """The bucket's last event with `start ≤ beat.start`, and its first one with a later start."""

    before: Event | None
    after: Event | None


class Heard(NamedTuple):
    """The event a heartbeat became part of, and whether that changed it."""

    event: Event
    is_news: bool


class Joined(NamedTuple):
    """The event as it shall be: an older one grown (or not changed at all), or one of its own."""

    event: Event
    is_growth: bool
    is_news: bool


def waves(beats: Sequence[Beat]) -> list[list[int]]:
    """Places of beats that may be handled together: no bucket twice in a wave, sorted by bucket.

    Beats of one bucket stay in order.
    """
    found: list[list[int]] = []
    seen: dict[str, int] = {}
    for place, beat in enumerate(beats):
        wave = seen[beat.bucket] = seen.get(beat.bucket, -1) + 1
        if wave == len(found):
            found.append([])
        found[wave].append(place)
    return [sorted(wave, key=lambda place: beats[place].bucket) for wave in found]


def join(beat: Beat, neighbours: Neighbours) -> Joined:
    """Decides about one heartbeat. Silence up to `pulse_us` joins, both ends included.

    No event outgrows 31 days, and points join nothing.
    """
    before, after = neighbours
    event = beat.event
    if before is not None and _joins(before, event, beat.pulse_us):
        claim = max(before.claimed_end_us, event.claimed_end_us)
        claim = _reach(before.start_us, claim, event, after, beat.pulse_us)
        if claim == before.claimed_end_us:
            return Joined(before, is_growth=True, is_news=False)
        return Joined(ending(before, claim, beat.latest_us), is_growth=True, is_news=True)
    claim = _reach(event.start_us, event.claimed_end_us, event, after, beat.pulse_us)
    return Joined(ending(event, claim, beat.latest_us), is_growth=False, is_news=True)


def _joins(before: Event, event: Event, pulse_us: int) -> bool:
    return (
        before.says_the_same_as(event)
        and not event.flags & POINT
        and event.start_us <= before.claimed_end_us + pulse_us
        and event.claimed_end_us - before.start_us <= MAX_DURATION_US
    )


def _reach(start_us: int, claim: int, event: Event, after: Event | None, pulse_us: int) -> int:
    """The end of the joined event: at `after` when only a short silence parts them."""
    if (
        after is None
        or event.flags & POINT
        or not claim < after.start_us <= claim + pulse_us
        or after.start_us - start_us > MAX_DURATION_US
        or not after.says_the_same_as(event)
    ):
        return claim
    return after.start_us
