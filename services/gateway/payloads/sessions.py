"""Derived time as the public interface says it: sessions, days, slices."""

from collections.abc import Iterable, Mapping
from typing import Final, Self

import msgspec

from protos.sessions.v1 import sessions_pb2 as pb
from services.gateway.payloads.times import instant, seconds

DeviceNames = Mapping[str, str]
"""What agents call devices, by key."""
NO_NAMES: Final[DeviceNames] = {}


class SessionReply(msgspec.Struct, frozen=True, kw_only=True):
    """A run of activity in one context, or a stretch without input. `kind` is active or idle."""

    id: str
    user_id: str
    kind: str
    start: str
    end: str
    active_seconds: float
    category: str | None
    app: str | None
    domain: str | None
    project: str | None
    apps: list[str]
    contexts: list[str]
    context_switches: int
    interruptions: int
    devices: list[str]

    @classmethod
    def of(cls, session: pb.Session, names: DeviceNames) -> Self:
        """From the service."""
        return cls(
            id=session.id,
            user_id=session.user_id,
            kind=session.kind,
            start=instant(session.start_us),
            end=instant(session.end_us),
            active_seconds=seconds(session.active_us),
            category=session.category or None,
            app=session.app or None,
            domain=session.domain or None,
            project=session.project or None,
            apps=list(session.apps),
            contexts=list(session.contexts),
            context_switches=session.context_switches,
            interruptions=session.interruptions,
            devices=[names.get(key, key) for key in session.devices],
        )


class SliceReply(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of the timeline; slices never overlap."""

    start: str
    end: str
    app: str | None
    title: str | None
    url: str | None
    domain: str | None
    project: str | None
    file: str | None
    language: str | None
    category: str | None
    device_id: str

    @classmethod
    def of(cls, one: pb.Slice, names: DeviceNames) -> Self:
        """From the service."""
        return cls(
            start=instant(one.start_us),
            end=instant(one.end_us),
            app=one.app or None,
            title=one.title or None,
            url=one.url or None,
            domain=one.domain or None,
            project=one.project or None,
            file=one.file or None,
            language=one.language or None,
            category=one.category or None,
            device_id=names.get(one.device_id, one.device_id),
        )


class ShareReply(msgspec.Struct, frozen=True, kw_only=True):
    """A share of a day; the empty name is the rest."""

    name: str
    active_seconds: float


class HighlightReply(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch worth pointing at; `note` is its category, or what came before it."""

    start: str
    duration: float
    note: str | None

    @classmethod
    def of(cls, highlight: pb.Highlight) -> Self:
        """From the service."""
        return cls(
            start=instant(highlight.start_us),
            duration=seconds(highlight.duration_us),
            note=highlight.note or None,
        )


class PatternsReply(msgspec.Struct, frozen=True, kw_only=True):
    """What stands out in a day; `peak_hour` is null without activity."""

    longest_focus: HighlightReply | None
    idle_periods: list[HighlightReply]
    distraction_blocks: list[HighlightReply]
    context_switch_rate: float
    peak_hour: int | None

    @classmethod
    def of(cls, patterns: pb.Patterns) -> Self:
        """From the service."""
        has_focus = patterns.HasField("longest_focus")
        return cls(
            longest_focus=HighlightReply.of(patterns.longest_focus) if has_focus else None,
            idle_periods=[HighlightReply.of(one) for one in patterns.idle_periods],
            distraction_blocks=[HighlightReply.of(one) for one in patterns.distraction_blocks],
            context_switch_rate=patterns.context_switch_rate,
            peak_hour=patterns.peak_hour if patterns.peak_hour >= 0 else None,
        )


class DayReply(msgspec.Struct, frozen=True, kw_only=True):
    """One local day; every breakdown adds up to `active_seconds`. `by_hour` has 24 entries.

    `sessions` are those that overlap the day, whole, oldest first; null in lists of days.
    """

    date: str
    time_zone: str
    active_seconds: float
    idle_seconds: float
    session_count: int
    by_hour: list[float]
    by_app: list[ShareReply]
    by_domain: list[ShareReply]
    by_category: list[ShareReply]
    by_project: list[ShareReply]
    patterns: PatternsReply
    version: int

    sessions: list[SessionReply] | None

    @classmethod
    def of(
        cls,
        day: pb.Day,
        sessions: Iterable[pb.Session] | None = None,
        names: DeviceNames = NO_NAMES,
    ) -> Self:
        """From the service."""
        return cls(
            date=day.date,
            time_zone=day.time_zone,
            active_seconds=seconds(day.active_us),
            idle_seconds=seconds(day.idle_us),
            session_count=day.session_count,
            by_hour=[seconds(us) for us in day.by_hour_us],
            by_app=_shares(day.by_app),
            by_domain=_shares(day.by_domain),
            by_category=_shares(day.by_category),
            by_project=_shares(day.by_project),
            patterns=PatternsReply.of(day.patterns),
            version=day.version,
            sessions=None
            if sessions is None
            else [SessionReply.of(session, names) for session in sessions],
        )


def _shares(shares: Iterable[pb.Share]) -> list[ShareReply]:
    return [ShareReply(name=one.name, active_seconds=seconds(one.active_us)) for one in shares]
