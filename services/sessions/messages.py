"""Domain values as messages of the contract; pure."""

from collections.abc import Iterable
from datetime import date

from protos.sessions.v1 import sessions_pb2 as pb
from services.sessions.domain import Day, Session, Slice
from services.sessions.domain.days import Share
from services.sessions.domain.patterns import Highlight, Patterns


def session_message(session: Session, user_id: str) -> pb.Session:
    """One session as subscribers and readers see it."""
    return pb.Session(
        id=str(session.id),
        user_id=user_id,
        kind=str(session.kind),
        start_us=session.start_us,
        end_us=session.end_us,
        active_us=session.active_us,
        idle_us=session.idle_us,
        category=session.category,
        app=session.app,
        domain=session.domain,
        project=session.project,
        apps=session.apps,
        contexts=session.contexts,
        context_switches=session.context_switches,
        interruptions=session.interruptions,
        devices=session.devices,
    )


def slice_message(piece: Slice) -> pb.Slice:
    """One slice of the timeline."""
    facets = piece.facets
    return pb.Slice(
        start_us=piece.start_us,
        end_us=piece.end_us,
        app=facets.app,
        title=facets.title,
        url=facets.url,
        domain=facets.domain,
        project=facets.project,
        file=facets.file,
        language=facets.language,
        category=piece.category,
        device_id=piece.device,
    )


def day_message(day: Day, version: int) -> pb.Day:
    """One day, without its sessions."""
    return pb.Day(
        date=day.date.isoformat(),
        time_zone=day.time_zone,
        active_us=day.active_us,
        idle_us=day.idle_us,
        session_count=day.session_count,
        by_hour_us=day.by_hour,
        by_app=_shares(day.by_app),
        by_domain=_shares(day.by_domain),
        by_category=_shares(day.by_category),
        by_project=_shares(day.by_project),
        patterns=_patterns(day.patterns),
        version=version,
    )


def date_of(message: pb.Day) -> date:
    """The local date of a day message."""
    return date.fromisoformat(message.date)


def _shares(shares: Iterable[Share]) -> list[pb.Share]:
    return [pb.Share(name=share.name, active_us=share.active_us) for share in shares]


def _patterns(patterns: Patterns) -> pb.Patterns:
    return pb.Patterns(
        longest_focus=_highlight(patterns.longest_focus) if patterns.longest_focus else None,
        idle_periods=[_highlight(one) for one in patterns.idle_periods],
        distraction_blocks=[_highlight(one) for one in patterns.distraction_blocks],
        context_switch_rate=patterns.context_switch_rate,
        peak_hour=-1 if patterns.peak_hour is None else patterns.peak_hour,
    )


def _highlight(one: Highlight) -> pb.Highlight:
    return pb.Highlight(start_us=one.start_us, duration_us=one.duration_us, note=one.note)
