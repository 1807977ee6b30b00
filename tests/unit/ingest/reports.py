"""What agents report, made short."""

from services.ingest.domain.admission import YEAR_2000_US, Admission, Reported, Window, admit
from services.ingest.domain.columns import Columns, Texts

SECOND_US = 1_000_000
T0 = 1_768_790_100 * SECOND_US
NOW = T0 + 86_400 * SECOND_US
WINDOW = Window(YEAR_2000_US, NOW)
SOURCE = "aw-watcher-window_laptop"


def report(
    start: float, duration: float = 5, *, name: str = "", flags: int = 1, **texts: str
) -> dict[str, object]:
    """One event, seconds after T0."""
    start_us, end_us = (T0 + round(at * SECOND_US) for at in (start, start + duration))
    return {
        "name": name,
        "start_us": start_us,
        "duration_us": end_us - start_us,
        "flags": flags,
        **texts,
    }


def reported(*events: dict[str, object]) -> Reported:
    """The columns of a request; those that no event uses are left empty."""

    def column(name, absent):
        values = [event.get(name, absent) for event in events]
        return values if any(values) else []

    return Reported(
        names=column("name", ""),
        start_us=[event["start_us"] for event in events],
        duration_us=column("duration_us", 0),
        flags=column("flags", 0),
        texts=Texts(*(column(name, "") for name in Texts._fields)),
    )


def admitted(
    *events: dict[str, object], source: str = SOURCE, window: Window = WINDOW
) -> Admission:
    return admit(source, reported(*events), window)


def ids(*events: dict[str, object], source: str = SOURCE) -> list[bytes]:
    return admitted(*events, source=source).columns.ids


def rows(columns: Columns) -> list[tuple[object, ...]]:
    """The events one by one."""
    lists = [columns.ids, columns.start_us, columns.end_us, columns.claims, columns.flags]
    texts = [column or [""] * len(columns) for column in columns.texts]
    return list(zip(*lists, *texts, strict=True))
