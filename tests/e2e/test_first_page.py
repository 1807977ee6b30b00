"""The README's first page, typed by hand."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from deploy.embedded.wheels import REPOSITORY
from tests.support.eventually import eventually
from tests.support.people import Live
from tests.support.servers import Suite

pytestmark = pytest.mark.e2e

README: Final = (REPOSITORY / "README.md").read_text()
PRINTED_URL: Final = "http://127.0.0.1:8080"
NUMBERS: Final = {"one": 1, "two": 2, "three": 3}
# What one is to read there, by the first folder.
PATH: Final = re.compile(r"(?<![\w/.])((?:[\w-]+/)+[\w.-]*[\w-]|[\w-]+\.(?:md|yaml|toml|lock))")


def section(title: str) -> str:
    """What stands under a heading."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the README has no section {title!r}"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Each curl command of "Send something" with the comment below it."""
    found = []
    for block in blocks(section("Send something"), "sh"):
        for typed in block.strip().split("\n\n"):
            lines = typed.splitlines()
            said = " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
            found.append(("\n".join(one for one in lines if not one.startswith("#")), said))
    return found


async def typed(suite: Suite, command: str) -> Any:
    """What a shell prints for a command of the README, with this suite's URL and key."""
    assert PRINTED_URL in command
    done = await asyncio.to_thread(
        subprocess.run,
        ["/bin/sh", "-c", command.replace(PRINTED_URL, suite.url)],
        env={"PATH": os.environ["PATH"], "KEY": suite.api_key},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the first page is typed with curl")
async def test_what_is_sent_with_curl_is_answered_as_printed(suite: Suite) -> None:
    (send, sent), (read, described) = commands()
    assert send.startswith("curl")
    assert read.startswith("curl")
    first, _, again = sent.partition("sent again:")
    assert await typed(suite, send) == json.loads(first)
    assert await typed(suite, send) == json.loads(again)
    wanted = re.fullmatch(r"(\w+) session, (\d+) active seconds, category (\w+)", described)
    assert wanted is not None, described

    async def derived() -> Any:
        found = (await typed(suite, read))["items"]
        return len(found) == NUMBERS[wanted[1]] and found

    [session] = await eventually(derived, within=20, every=0.2)
    assert session["active_seconds"] == int(wanted[2])
    assert session["category"] == wanted[3]


async def test_the_frame_for_a_live_socket_subscribes(suite: Suite) -> None:
    found = re.search(r'`(\{"type": "subscribe".*?\})`', section("Send something"))
    assert found is not None
    address = suite.url.replace("http", "ws", 1) + "/v1/live"
    headers = {"Authorization": f"Bearer {suite.api_key}"}
    async with connect(address, additional_headers=headers) as socket:
        await socket.send(found[1])
        answer = await Live(socket).until(lambda _: True)
    assert (answer["type"], answer["channel"]) == ("subscribed", "me")


def test_the_activitywatch_settings_work_as_printed(suite: Suite, tmp_path: Path) -> None:
    [settings] = blocks(section("Send something"), "toml")
    port = str(urlsplit(suite.url).port)
    settings = re.sub(r"tl_[^@\"]*@", f"{suite.api_key}@", settings).replace('"8080"', f'"{port}"')
    folder = tmp_path / "activitywatch" / "aw-client"
    assert f"~/.config/{folder.relative_to(tmp_path)}/aw-client.toml" in README
    folder.mkdir(parents=True)
    (folder / "aw-client.toml").write_text(settings)
    watcher = (
        "from aw_client import ActivityWatchClient\n"
        "client = ActivityWatchClient('aw-watcher-readme')\n"
        "client.create_bucket('aw-watcher-readme_laptop', 'test')\n"
        "print(client.server_address, *client.get_buckets())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watcher],
        env={"PATH": os.defpath, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert port in done.stdout, done.stderr
    assert "aw-watcher-readme_laptop" in done.stdout


def test_what_starting_prints_is_what_the_page_shows(suite: Suite) -> None:
    [shown] = blocks(section("Start"), "text")
    lines = [line.partition(":")[0] for line in shown.splitlines()]
    assert lines == ["Timeloom is ready", "API key"]
    printed = re.sub(r"[ ]+", " ", suite.printed())
    assert f"Timeloom is ready: {suite.url}" in printed
    assert f"API key: {suite.api_key}" in printed


def test_every_command_of_make_exists() -> None:
    named = set(re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", README))
    assert {"up", "test"} <= named
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    )
    # Prose uses the word too.
    spoken = {name for name in named if f"`make {name}`" in README or f"\nmake {name} " in README}
    assert spoken
    assert spoken <= targets


def test_every_path_and_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    folders = {one.name for one in REPOSITORY.iterdir() if one.is_dir()}
    named = {path for path in PATH.findall(README) if path.split("/")[0] in folders}
    assert len(named) >= 10, named
    missing = sorted(path for path in {*links, *named} if not (REPOSITORY / path).exists())
    assert not missing, f"the README speaks of what is not there: {missing}"
