"""Repositories, channels, documents and sites, read from titles and addresses."""

import pytest

from services.sessions.domain import Facets
from services.sessions.domain.places import MAX_NAME_LENGTH, Place, place_of
from tests.unit.sessions.scenes import page, seen, sessions


@pytest.mark.parametrize(
    ("facets", "kind", "name"),
    [
        (page("https://github.com/ann/loom/issues/2?x=1#c"), "repository", "ann/loom"),
        (page("https://gitlab.com/ann/loom.git"), "repository", "ann/loom"),
        (page("https://github.com/settings/profile"), "site", "github.com"),
        (page("https://github.com/"), "site", "github.com"),
        (page("https://quiet.example/a/b"), "site", "quiet.example"),
        (page("https://app.slack.com/x", title="#dev - Acme - Slack"), "channel", "#dev"),
        (page("https://discord.com/c", title="(3) Discord | #help | Server"), "channel", "#help"),
        (page("https://docs.google.com/d/1", title="Plan - Google Docs"), "document", "Plan"),
        (Facets(app="Code", title="a.py - loom - Visual Studio Code"), "repository", "loom"),
        (
            Facets(app="Code", title="● a.py - loom [SSH: box] - Visual Studio Code"),
            "repository",
            "loom",
        ),
        (Facets(app="Cursor", title="notes.md - Cursor"), "document", "notes.md"),
        (Facets(app="PyCharm", title="loom – a.py"), "repository", "loom"),
        (Facets(app="Xcode", title="App.swift — Loom"), "repository", "Loom"),
        (Facets(app="Terminal", title="ann@box: ~/src/loom"), "repository", "loom"),
        (Facets(app="Ghostty", title="make test"), "document", "make test"),
        (Facets(app="Slack", title="#general (Channel) - Acme - Slack"), "channel", "#general"),
        (Facets(app="Slack", title="Bea (DM) - Acme - Slack"), "channel", "Bea (DM)"),
        (Facets(app="Discord", title="@Bea - Discord"), "channel", "@Bea"),
        (Facets(app="Word", title="Offer.docx - Word"), "document", "Offer.docx"),
        (Facets(app="Vim", file="/home/ann/src/a.py"), "document", "a.py"),
        (Facets(app="Code", file="C:\\src\\b.py", title="x"), "document", "b.py"),
    ],
)
def test_a_place_is_read_from_what_was_seen(facets, kind, name):
    assert place_of(facets) == Place(kind, name)


@pytest.mark.parametrize(
    "facets",
    [
        Facets(),
        Facets(app="Firefox", title="some page"),
        Facets(app="Word", title="Untitled"),
        Facets(app="Slack", title="Slack"),
        Facets(app="Word", title="   "),
        Facets(app="Word", title=" - "),
    ],
)
def test_generic_titles_and_bare_browser_windows_are_no_place(facets):
    assert place_of(facets) is None


def test_long_names_are_cut():
    place = place_of(Facets(app="Word", title="x" * 500))
    assert place == Place("document", "x" * MAX_NAME_LENGTH)


def test_a_session_lists_ten_places_most_time_first_without_regard_to_case():
    evidence = [
        seen(100 * n, 20 + n, Facets(app="Word", title=f"Doc {n:02} - Word")) for n in range(12)
    ]
    evidence.append(seen(2_000, 5, Facets(app="Word", title="DOC 11 - Word")))
    evidence.append(seen(1_300, 500, page("https://quiet.example/")))
    [session] = sessions(evidence)
    assert session.contexts == ("quiet.example", *(f"Doc {n:02}" for n in range(11, 2, -1)))


def test_context_switches_are_changes_of_app_or_domain_and_pass_over_the_unknown():
    word, other_word = Facets(app="Word", title="a"), Facets(app="Word", title="b")
    a, b = page("https://a.example/x"), page("https://b.example/")
    steps = [word, other_word, Facets(), word, a, page("https://a.example/y"), b, word]
    [session] = sessions([seen(10 * n, 10, facets) for n, facets in enumerate(steps)])
    assert session.context_switches == 3
