"""Synthetic activity: samples of five seconds, like those of a real watcher."""

import json
from datetime import UTC, datetime, timedelta

APPS = (
    ("Code", "loom.py - shuttle"),
    ("Firefox", "Pull request 41"),
    ("Slack", "#general"),
    ("Ghostty", "make test"),
    ("Figma", "Checkout"),
    ("zoom.us", "Planning"),
)
STEP = timedelta(seconds=5)
# Nobody works without a pause: after 1,000 samples, 83 minutes, comes one of 20 minutes.
SITTING = 1000
PAUSE = timedelta(minutes=20)


def at(start: datetime, number: int) -> datetime:
    """When the `number`-th sample begins."""
    return start + number * STEP + number // SITTING * PAUSE


def sample(start: datetime, number: int) -> dict[str, object]:
    """The `number`-th five seconds from `start`; an app is kept for a minute."""
    app, title = APPS[number // 12 % len(APPS)]
    return {
        "start": at(start, number).isoformat(),
        "duration": 5,
        "idle": False,
        "app": app,
        "title": title,
        "url": f"https://github.com/linden/shuttle/pull/{number // 12 % 40}",
    }


def body(device: str, start: datetime, first: int, count: int) -> bytes:
    """A body of `POST /v1/events` with the samples from `first` on."""
    events = [sample(start, first + n) for n in range(count)]
    return json.dumps({"device_id": device, "source": "bench", "events": events}).encode()


def long_ago(days: int) -> datetime:
    """A midnight that many days back."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days)
