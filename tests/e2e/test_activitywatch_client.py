"""The unmodified aw-client 0.5.15: its window and AFK heartbeats become sessions."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.eventually import eventually
from tests.support.people import NOON, Person
from tests.support.servers import Suite

pytestmark = pytest.mark.e2e

# Runs in a process of its own: the client keeps threads, locks and a queue in the home folder.
WATCHERS = """
import sys, time
from datetime import datetime, timedelta
from aw_client import ActivityWatchClient
from aw_core.models import Event

host, port, start = sys.argv[1], int(sys.argv[2]), datetime.fromisoformat(sys.argv[3])
client = ActivityWatchClient("aw-watcher-test", host=host, port=port)
window, afk = "aw-watcher-window_laptop", "aw-watcher-afk_laptop"
client.create_bucket(window, "currentwindow")
client.create_bucket(afk, "afkstatus")
assert client.get_info()["version"]
for n in range(0, 600, 5):
    at = start + timedelta(seconds=n)
    data = {"app": "Code", "title": "loom.py - shuttle"}
    client.heartbeat(window, Event(timestamp=at, data=data), pulsetime=6)
    status = "not-afk" if n < 200 else "afk"
    client.heartbeat(afk, Event(timestamp=at, data={"status": status}), pulsetime=185)
merged = client.get_events(window)
assert len(merged) == 1, merged
assert merged[0].duration == timedelta(seconds=595), merged
assert client.get_eventcount(afk) == 2
assert set(client.get_buckets()) >= {window, afk}
print("sent")
"""


def run_watchers(suite: Suite, home: Path, host: str) -> str:
    port = urlsplit(suite.url).port
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", WATCHERS, host, str(port), NOON.isoformat()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.stdout + done.stderr


async def test_window_and_afk_heartbeats_become_an_active_and_an_idle_session(
    suite: Suite, ana: Person, tmp_path: Path
) -> None:
    wanted = {"name": "laptop", "scopes": ["events:write", "read"]}
    key = (await ana.ok("POST", "/v1/api-keys", json=wanted))["key"]
    assert "sent" in run_watchers(suite, tmp_path, f"ana:{key}@127.0.0.1")

    async def two() -> bool:
        return [s["kind"] for s in await ana.sessions()] == ["active", "idle"]

    await eventually(two, within=20)
    active, idle = await ana.sessions()
    assert active["app"] == "Code"
    assert active["category"] == "development"
    assert active["active_seconds"] == pytest.approx(195, abs=6)
    ends = NOON + timedelta(seconds=595)
    assert idle["end"].startswith(ends.isoformat()[:19])


async def test_a_wrong_key_is_refused_when_the_bucket_is_made(suite: Suite, tmp_path: Path) -> None:
    printed = run_watchers(suite, tmp_path, "ana:tl_wrong_key@127.0.0.1")
    assert "401" in printed
    assert "sent" not in printed
