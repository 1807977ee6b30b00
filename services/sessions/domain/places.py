"""What was worked on, read from addresses and titles: a repository, channel, document or site.

Runs once per distinct set of attributes, so it looks for separators instead of matching patterns.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

import msgspec

from services.sessions.domain.apps import app_key, is_browser
from services.sessions.domain.evidence import Facets

MAX_NAME_LENGTH = 80
"""Characters kept of a name, because titles may hold whole sentences."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """One context of work."""

    kind: Literal["repository", "channel", "document", "site"]
    name: str


@lru_cache(maxsize=32_768)
def place_of(facets: Facets) -> Place | None:
    """The most telling place: project and file, then address, then title; None when generic."""
    if facets.file:
        return _place("document", facets.file.replace("\\", "/").rpartition("/")[2])
    if facets.url or facets.domain:
        return _place_of_address(facets)
    if not facets.title or (facets.app and is_browser(facets.app)):
        return None
    return _place_of_title(facets)


def _place(kind: Literal["repository", "channel", "document", "site"], name: str) -> Place | None:
    name = name.strip(_EDGES)[:MAX_NAME_LENGTH].strip(_EDGES)
    return Place(kind, name) if name and name.casefold() not in _GENERIC else None


_EDGES = " \t-–—|·•"
_GENERIC = frozenset(
    {"untitled", "new document", "new tab", "home", "desktop", "window", "loading", "loading…"}
)

_FORGES = frozenset({"github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "git.sr.ht"})
_FORGE_PAGES = """
    about account blog collections dashboard enterprise explore features issues login logout
    marketplace new notifications orgs pricing pulls search sessions settings signup sponsors stars
    topics trending users
"""
_NOT_OWNERS = frozenset(_FORGE_PAGES.split())
_CHATS = ("app.slack.com", "discord.com", "teams.microsoft.com", "web.telegram.org")
_OFFICES = ("docs.google.com", "figma.com", "notion.so", "canva.com", "miro.com")


def _place_of_address(facets: Facets) -> Place | None:
    domain = facets.domain
    if domain in _FORGES:
        parts = [part for part in _path_of(facets.url).split("/") if part]
        if len(parts) >= 2 and parts[0].lower() not in _NOT_OWNERS:
            return _place("repository", f"{parts[0]}/{parts[1].removesuffix('.git')}")
    elif facets.title and domain in _CHATS:
        channel = _channel(facets.title)
        if channel:
            return _place("channel", channel)
    elif facets.title and domain in _OFFICES:
        return _place("document", _parts(facets.title)[0])
    return _place("site", domain)


def _path_of(url: str) -> str:
    """The path of an address, without query and fragment."""
    _, _, rest = url.partition("//")
    path = rest.partition("/")[2]
    for mark in "?#":
        path = path.partition(mark)[0]
    return unquote(path)


def _parts(title: str) -> list[str]:
    """The title between its separators, without unread counts and change marks; n ≥ 1."""
    title = _without_count(title).strip("●•* \t")
    for dash in (" — ", " – ", " • ", " | ", " · "):
        title = title.replace(dash, " - ")
    return [part.strip() for part in title.split(" - ")]


def _without_count(title: str) -> str:
    """`(3) Inbox` is `Inbox`."""
    if title.startswith("("):
        count, closed, rest = title[1:].partition(")")
        if closed and count.rstrip("+").isdigit():
            return rest.strip()
    return title


def _channel(title: str) -> str:
    """The part that names a channel or a person; empty when none does."""
    parts = _parts(title)
    named = next((part for part in parts if part.startswith(("#", "@"))), "")
    if named:
        return named.split()[0]
    return parts[0] if len(parts) > 1 else ""


def _second_of_editor(title: str) -> Place | None:
    """`file - folder - Editor`: the folder stands for the repository."""
    parts = _parts(title)
    if len(parts) >= 3:
        return _place("repository", parts[-2].partition(" [")[0])
    return _place("document", parts[0])


def _first_of_project(title: str) -> Place | None:
    """`project – file`, as JetBrains editors write it."""
    parts = _parts(title)
    return _place("repository" if len(parts) > 1 else "document", parts[0].partition(" [")[0])


def _last_of_project(title: str) -> Place | None:
    """`file — project`, as Xcode and Zed may write it."""
    parts = _parts(title)
    return _place("repository" if len(parts) > 1 else "document", parts[-1])


def _terminal(title: str) -> Place | None:
    """`user@host: ~/path`: the folder; else the command."""
    for word in reversed(title.replace(":", " ").split()):
        if word.startswith(("~/", "/")):
            return _place("repository", word.rstrip("/").rpartition("/")[2])
    return _place("document", _parts(title)[0])


def _chat(title: str) -> Place | None:
    return _place("channel", _channel(title))


def _document(title: str) -> Place | None:
    return _place("document", _parts(title)[0])


def _by_app(
    apps: str, read: Callable[[str], Place | None]
) -> dict[str, Callable[[str], Place | None]]:
    return dict.fromkeys(apps.split("|"), read)


_READERS = {
    **_by_app(
        "code|visual studio code|code - insiders|cursor|vscodium|windsurf", _second_of_editor
    ),
    **_by_app("com.microsoft.vscode|sublime text|sublime_text", _second_of_editor),
    **_by_app("intellij idea|idea|idea64|pycharm|pycharm64|webstorm|webstorm64", _first_of_project),
    **_by_app("goland|clion|rider|rubymine|phpstorm|android studio|rustrover", _first_of_project),
    **_by_app("xcode|com.apple.dt.xcode|zed", _last_of_project),
    **_by_app("terminal|iterm2|ghostty|alacritty|kitty|warp|wezterm|hyper|konsole", _terminal),
    **_by_app("gnome-terminal|windowsterminal|com.apple.terminal|foot", _terminal),
    **_by_app("slack|discord|microsoft teams|teams|mattermost|element|zulip|telegram", _chat),
}


def _place_of_title(facets: Facets) -> Place | None:
    return _READERS.get(app_key(facets.app), _document)(facets.title)
