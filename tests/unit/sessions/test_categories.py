"""Category rules: what they match, which wins, and the starter set."""

import pytest

from chassis.errors import Invalid
from services.sessions.domain import (
    STARTER_RULES,
    Categorizer,
    CategoryRule,
    Facets,
    Field,
    Rules,
    domain_of,
)
from services.sessions.domain import categories as categories_module
from services.sessions.domain.apps import is_browser
from tests.unit.sessions.scenes import SECOND, SLACK, STARTER, VSCODE, outline, page, seen, sessions


def category(facets: Facets, *rules: CategoryRule) -> str:
    return Categorizer(rules)(facets)


@pytest.mark.parametrize(
    ("field", "pattern", "facets"),
    [
        (Field.APP, "Code", Facets(app="code")),
        (Field.APP, "Code", Facets(app="Code.exe")),
        (Field.BUNDLE, "com.apple.dt.Xcode", Facets(app="com.apple.dt.xcode")),
        (Field.DOMAIN, "www.GitHub.com", Facets(domain="github.com")),
        (Field.DOMAIN, "*.github.com", Facets(domain="gist.github.com")),
        (Field.DOMAIN, "*.github.com", Facets(domain="a.b.github.com")),
        (Field.DOMAIN, "*.github.com", Facets(domain="github.com")),
        (Field.TITLE, r"pull request #\d+", Facets(title="Fix it · Pull Request #12 · o/r")),
        (Field.URL, "/issues/", Facets(url="https://git.example/o/r/issues/3")),
        (Field.FILE, "/home/ann/src", Facets(file="/home/ann/src/main.py")),
        (Field.FILE, "C:\\src", Facets(file="c:/src/main.py")),
        (Field.FILE, "/home/*/src/**.py", Facets(file="/home/ann/src/pkg/main.py")),
        (Field.FILE, "/x/?.md", Facets(file="/x/a.md")),
    ],
)
def test_a_rule_matches(field, pattern, facets):
    assert category(facets, CategoryRule("hit", field, pattern)) == "hit"


@pytest.mark.parametrize(
    ("field", "pattern", "facets"),
    [
        (Field.APP, "Arc", Facets(app="Search")),
        (Field.APP, "Code", Facets(title="Code")),
        (Field.DOMAIN, "github.com", Facets(domain="gist.github.com")),
        (Field.DOMAIN, "*.github.com", Facets(domain="notgithub.com")),
        (Field.DOMAIN, "github.com", Facets(title="github.com")),
        (Field.TITLE, "^review", Facets(title="my review")),
        (Field.FILE, "/home/*/notes", Facets(file="/home/ann/src/notes")),
        (Field.FILE, "/src/*.py", Facets(file="/src/pkg/main.py")),
        (Field.FILE, "/src/a.py", Facets(file="/src/axpy")),
    ],
)
def test_a_rule_does_not_match(field, pattern, facets):
    assert category(facets, CategoryRule("hit", field, pattern)) == ""


SEEN = Facets(
    app="Firefox",
    title="Review",
    url="https://git.corp.example/r",
    domain="git.corp.example",
    file="/src/a.py",
)
FROM_GENERAL_TO_SPECIFIC = [
    CategoryRule("app", Field.APP, "Firefox"),
    CategoryRule("bundle", Field.BUNDLE, "firefox"),
    CategoryRule("far", Field.DOMAIN, "*.example"),
    CategoryRule("near", Field.DOMAIN, "*.corp.example"),
    CategoryRule("domain", Field.DOMAIN, "git.corp.example"),
    CategoryRule("title", Field.TITLE, "review"),
    CategoryRule("url", Field.URL, "git"),
    CategoryRule("file", Field.FILE, "/src"),
    CategoryRule("deeper", Field.FILE, "/src/a"),
]


@pytest.mark.parametrize("count", range(1, len(FROM_GENERAL_TO_SPECIFIC) + 1))
def test_the_most_specific_rule_wins_in_any_order(count):
    rules = FROM_GENERAL_TO_SPECIFIC[:count]
    assert category(SEEN, *rules) == rules[-1].category
    assert category(SEEN, *reversed(rules)) == rules[-1].category


def test_priority_comes_before_specificity():
    important = CategoryRule("app", Field.APP, "Firefox", priority=1)
    assert category(SEEN, important, *FROM_GENERAL_TO_SPECIFIC) == "app"
    unimportant = CategoryRule("file", Field.FILE, "/src/a.py", priority=-1)
    assert category(SEEN, unimportant, FROM_GENERAL_TO_SPECIFIC[0]) == "app"


def test_of_equal_rules_the_later_wins_so_own_rules_prevail_over_the_starter_set():
    own = CategoryRule("research/code", Field.DOMAIN, "github.com")
    found = Categorizer([*STARTER_RULES, own])
    assert found(page("https://github.com/o/r")) == "research/code"
    assert found.explain(page("https://github.com/o/r")) == own
    assert found.explain(Facets(app="nobody knows")) is None


@pytest.mark.parametrize(
    ("hint", "meant"),
    [("meeting", "meeting"), ("Coding", "development"), ("code reviewing", "development")],
)
def test_a_hint_counts_when_no_rule_matches(hint, meant):
    assert STARTER(Facets(app="nobody knows", hint=hint)) == meant
    assert STARTER(Facets(app="Slack", hint=hint)) == "communication"


def test_a_hint_that_names_no_category_is_ignored():
    assert STARTER(Facets(hint="zorbing")) == ""
    assert category(Facets(hint="Zorbing"), CategoryRule("zorbing", Field.APP, "x")) == "zorbing"


@pytest.mark.parametrize(
    ("facets", "expected"),
    [
        *((Facets(app=app), "development") for app in ("Visual Studio Code", "Cursor", "Xcode")),
        *((Facets(app=app), "development") for app in ("Ghostty", "iTerm2", "Terminal", "Bruno")),
        *((Facets(app=app), "communication") for app in ("Slack", "Discord", "Messages", "Mail")),
        (page("http://localhost:8080/x"), "development"),
        (page("https://remix.ethereum.org/"), "development"),
        (page("https://www.figma.com/file/x"), "design"),
        (page("https://fancy.figma.site/"), "design"),
        (page("https://en.wikipedia.org/wiki/Loom"), "research"),
        (page("https://google.com/search?q=x"), "research"),
        (page("https://mail.google.com/mail"), "communication"),
        (page("https://old.reddit.com/r/x"), "distraction"),
        (page("https://accounts.google.com/"), "other"),
        (Facets(app="Firefox"), ""),
    ],
)
def test_the_starter_set_knows_the_usual(facets, expected):
    assert STARTER(facets) == expected


def test_no_starter_rule_hides_another_or_names_a_browser():
    keys = [(rule.field, rule.pattern.casefold()) for rule in STARTER_RULES]
    assert len(set(keys)) == len(keys)
    assert not [rule for rule in STARTER_RULES if rule.field == "app" and is_browser(rule.pattern)]
    assert {rule.category for rule in STARTER_RULES} <= set(categories_module.BUILT_IN)


@pytest.mark.parametrize(
    ("rule_category", "field", "pattern", "at_fault"),
    [
        ("", Field.APP, "x", "category"),
        ("a//b", Field.APP, "x", "category"),
        (" a", Field.APP, "x", "category"),
        ("a/b/c/d/e/f", Field.APP, "x", "category"),
        ("a" * 101, Field.APP, "x", "category"),
        ("a", Field.APP, "  ", "pattern"),
        ("a", Field.APP, "x" * 501, "pattern"),
        ("a", Field.DOMAIN, "git*.com", "pattern"),
        ("a", Field.TITLE, "(", "pattern"),
        ("a", Field.URL, "(?=look)", "pattern"),
        ("a", Field.TITLE, "((x{100}){100}){100}", "pattern"),
    ],
)
def test_a_malformed_rule_names_the_field_at_fault(rule_category, field, pattern, at_fault):
    with pytest.raises(Invalid) as caught:
        CategoryRule(rule_category, field, pattern)
    assert [violation.field for violation in caught.value.violations] == [at_fault]


def test_too_many_rules_are_refused():
    with pytest.raises(Invalid):
        Categorizer([CategoryRule("a", Field.APP, "x")] * 5_001)


def test_a_catastrophic_expression_takes_linear_time():
    rule = CategoryRule("slow", Field.TITLE, "(a*)*(a*)*b$")
    assert category(Facets(title="a" * 50_000), rule) == ""


def test_remembering_is_bounded_and_changes_no_answer(monkeypatch):
    monkeypatch.setattr(categories_module, "MAX_REMEMBERED", 3)
    found = Categorizer(STARTER_RULES)
    apps = [Facets(app="Slack", title=str(n)) for n in range(10)]
    assert {found(one) for one in apps * 2} == {"communication"}
    assert len(found._remembered) <= 3


def test_idle_thresholds_may_differ_by_category_and_hold_for_children():
    patient = Rules(idle_after_by_category_us={"communication": 600 * SECOND})
    brief = Rules(idle_after_by_category_us={"development": 30 * SECOND})
    pause = [seen(60, 300, idle=True), seen(360, 60, VSCODE)]
    assert outline(sessions([seen(0, 60, SLACK), *pause], patient)) == [("active", 0, 420)]
    assert len(sessions([seen(0, 60, VSCODE), *pause], patient)) == 3
    shorter = [seen(0, 60, VSCODE), seen(60, 40, idle=True), seen(100, 60, VSCODE)]
    assert len(sessions(shorter)) == 1
    assert len(sessions(shorter, brief)) == 3
    assert patient.own_idle_after_us("communication/chat") == 600 * SECOND
    assert patient.own_idle_after_us("development") is None


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://www.Example.COM:8443/path?q#f", "example.com"),
        ("example.com/path", "example.com"),
        ("http://localhost:3000", "localhost"),
        ("http://[::1]:80/", "::1"),
        ("file:///home/ann/a.html", ""),
        ("http://[broken", ""),
        ("", ""),
    ],
)
def test_domains_are_hosts_without_www_and_port(url, domain):
    assert domain_of(url) == domain


@pytest.mark.parametrize(
    "bad",
    [
        {"session_gap_us": -1},
        {"session_gap_us": 5, "fill_gap_us": 6},
        {"idle_after_us": 0},
        {"point_timeout_us": 25 * 3600 * SECOND},
        {"idle_after_by_category_us": {"meeting": 0}},
    ],
)
def test_contradicting_thresholds_are_refused(bad):
    with pytest.raises(Invalid):
        Rules(**bad)
