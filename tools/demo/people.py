"""Who works at the demo studio, where, and with what; invented, and the same on every run."""

from typing import Final, NamedTuple


class Activity(NamedTuple):
    """Something a person does: what the window watcher, browser and editor would report."""

    app: str
    title: str
    url: str = ""
    project: str = ""
    file: str = ""
    language: str = ""


class Person(NamedTuple):
    """One person: zone, first and last hour of work (local), and habits with their weights."""

    name: str
    email: str
    role: str
    time_zone: str
    hours: tuple[float, float]
    habits: tuple[tuple[int, Activity], ...]
    has_phone: bool = False


ORGANIZATION: Final = "Linden Studio"
PASSWORD: Final = "a-demo-password"  # noqa: S105  # for invented people on one's own machine

CODE: Final = (
    (30, Activity("Code", "loom.py - shuttle", "", "shuttle", "src/shuttle/loom.py", "Python")),
    (18, Activity("Code", "test_loom.py - shuttle", "", "shuttle", "tests/test_loom.py", "Python")),
    (10, Activity("Ghostty", "make test")),
    (8, Activity("Firefox", "Pull request 41", "https://github.com/linden/shuttle/pull/41")),
    (4, Activity("Firefox", "asyncio", "https://docs.python.org/3/library/asyncio.html")),
    (6, Activity("Slack", "#shuttle - Linden Studio")),
    (2, Activity("Firefox", "Front page", "https://news.ycombinator.com/")),
)
DESIGN: Final = (
    (34, Activity("Figma", "Checkout, second draft")),
    (10, Activity("Firefox", "Checkout board", "https://www.figma.com/file/checkout")),
    (8, Activity("Slack", "#design - Linden Studio")),
    (5, Activity("Firefox", "Type specimens", "https://fonts.google.com/")),
    (4, Activity("Firefox", "Cat videos", "https://www.youtube.com/watch?v=cats")),
)
LEAD: Final = (
    (14, Activity("Slack", "#general - Linden Studio")),
    (12, Activity("zoom.us", "Weekly planning")),
    (12, Activity("Firefox", "Inbox", "https://mail.google.com/mail/u/0/")),
    (8, Activity("Firefox", "Roadmap", "https://docs.google.com/document/d/roadmap")),
    (6, Activity("Firefox", "Pull requests", "https://github.com/linden/shuttle/pulls")),
)
PHONE: Final = Activity("Slack", "Direct message")

PEOPLE: Final = (
    Person(
        "Ana Ferrari",
        "ana@linden.example",
        "owner",
        "Europe/Rome",
        (9.0, 17.5),
        LEAD,
        has_phone=True,
    ),
    Person("Ben Okafor", "ben@linden.example", "manager", "Europe/London", (8.5, 17.0), LEAD),
    Person("Chloe Marsh", "chloe@linden.example", "member", "America/New_York", (9.5, 18.0), CODE),
    Person(
        "Deniz Aydin",
        "deniz@linden.example",
        "member",
        "Europe/Istanbul",
        (10.0, 18.5),
        CODE,
        has_phone=True,
    ),
    Person("Emi Sato", "emi@linden.example", "member", "Asia/Tokyo", (9.0, 17.0), DESIGN),
)
