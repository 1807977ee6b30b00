"""Category rules: what a set of attributes is a sign of.

Of the rules that match, the highest priority wins; of equals the most specific attribute (file,
address, title, exact domain, domain wildcard, bundle, app), then the longer pattern, then the later
rule, so that an organization's own rules follow the starter set and prevail. Patterns of users run
in RE2, whose time is linear in the text.
"""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec
import re2

from chassis.errors import Invalid
from services.sessions.domain.apps import app_key
from services.sessions.domain.evidence import Facets

BUILT_IN = (
    "development", "design", "communication", "research", "meeting", "distraction", "other",
)  # fmt: skip

MAX_DEPTH = 5
MAX_CATEGORY_LENGTH = 100
MAX_PATTERN_LENGTH = 500
MAX_RULES = 5_000
"""Bounds on what an organization may store, because one recompute meets every rule."""
MAX_REMEMBERED = 50_000
"""Distinct attribute sets remembered, some 20 MB; then the memory starts over."""
_MAX_PATTERN_BYTES = 1 << 20
_MAX_SET_BYTES = 64 << 20


class Field(StrEnum):
    """What a rule looks at, and how its pattern is read; nothing minds upper or lower case."""

    APP = "app"
    """The whole name, with or without a file extension such as `.exe`."""
    BUNDLE = "bundle"
    """The whole bundle id, which some sources send in place of the app's name."""
    DOMAIN = "domain"
    """A host name, or `*.host` for the host and all below it; `www.` does not count."""
    TITLE = "title"
    """A regular expression in RE2 syntax, found anywhere."""
    URL = "url"
    """As for titles."""
    FILE = "file"
    """A path prefix; or a glob for the whole path: `*` within a folder, `**` across, `?`."""


_WILDCARD = "*."
_SPECIFICITY = {
    Field.APP: 0,
    Field.BUNDLE: 1,
    _WILDCARD: 2,
    Field.DOMAIN: 3,
    Field.TITLE: 4,
    Field.URL: 5,
    Field.FILE: 6,
}

_Rank = tuple[int, int, int, int]
"""Priority, specificity, pattern length, position of the rule; the greatest wins."""


class CategoryRule(msgspec.Struct, frozen=True):
    """One row of a category table.

    Raises:
        Invalid: category or pattern is empty, too long or malformed.
    """

    category: str
    """Levels parted by `/`, such as `development/review`."""
    field: Field
    pattern: str
    priority: int = 0

    def __post_init__(self) -> None:
        levels = self.category.split("/")
        if not all(level and level == level.strip() for level in levels):
            raise Invalid.field("category", "must have a name on every level")
        if len(levels) > MAX_DEPTH or len(self.category) > MAX_CATEGORY_LENGTH:
            raise Invalid.field("category", "is too long or too deep")
        if not self.pattern.strip() or len(self.pattern) > MAX_PATTERN_LENGTH:
            raise Invalid.field("pattern", f"must have 1 to {MAX_PATTERN_LENGTH} characters")
        if self.field is Field.DOMAIN and "*" in self.pattern.removeprefix(_WILDCARD):
            raise Invalid.field("pattern", "may have a wildcard only as `*.` in front")
        if self.field in {Field.TITLE, Field.URL}:
            try:
                re2.compile(self.pattern, _options(_MAX_PATTERN_BYTES))
            except re2.error as exc:
                raise Invalid.field("pattern", f"is no RE2 expression: {_reason(exc)}") from exc


class Categorizer:
    """Gives attributes their category under a list of rules, and remembers what it has seen.

    A pure function of the rules: build a new one when they change.

    Raises:
        Invalid: more than 5,000 rules, or expressions too large to search for together.
    """

    def __init__(self, rules: Sequence[CategoryRule]) -> None:
        if len(rules) > MAX_RULES:
            raise Invalid.field("rules", f"must be at most {MAX_RULES}")
        self._rules = tuple(rules)
        self._apps: dict[str, _Rank] = {}
        self._domains: dict[str, _Rank] = {}
        self._domains_below: dict[str, _Rank] = {}
        self._titles = _Patterns()
        self._urls = _Patterns()
        self._files = _Patterns()
        for position, rule in enumerate(rules):
            self._add(rule, position)
        for patterns in (self._titles, self._urls, self._files):
            patterns.compile()
        categories = (*BUILT_IN, *(rule.category for rule in rules))
        self._hints = {name.casefold(): name for name in categories}
        self._remembered: dict[Facets, str] = {}

    def __call__(self, facets: Facets) -> str:
        """The category; empty when neither a rule nor the source knows."""
        known = self._remembered.get(facets)
        if known is not None:
            return known
        rule = self.explain(facets)
        category = rule.category if rule else self._hinted(facets.hint)
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[facets] = category
        return category

    def explain(self, facets: Facets) -> CategoryRule | None:
        """The rule that wins; None when none matches."""
        best = max(self._matches(facets), default=None)
        return self._rules[best[-1]] if best else None

    def _add(self, rule: CategoryRule, position: int) -> None:
        pattern = rule.pattern.strip()
        is_wildcard = rule.field is Field.DOMAIN and pattern.startswith(_WILDCARD)
        specificity = _SPECIFICITY[_WILDCARD if is_wildcard else rule.field]
        rank = (rule.priority, specificity, len(pattern), position)
        match rule.field:
            case Field.APP | Field.BUNDLE:
                _keep_best(self._apps, app_key(pattern), rank)
            case Field.DOMAIN:
                domains = self._domains_below if is_wildcard else self._domains
                host = pattern.removeprefix(_WILDCARD).lower().removeprefix("www.")
                _keep_best(domains, host, rank)
            case Field.TITLE:
                self._titles.add(rule.pattern, rank)
            case Field.URL:
                self._urls.add(rule.pattern, rank)
            case Field.FILE:
                self._files.add(_path_expression(pattern), rank)

    def _matches(self, facets: Facets) -> Iterator[_Rank]:
        if facets.app:
            yield from _found(self._apps, app_key(facets.app))
        if facets.domain:
            yield from _found(self._domains, facets.domain)
            if self._domains_below:
                labels = facets.domain.split(".")
                for level in range(len(labels)):
                    yield from _found(self._domains_below, ".".join(labels[level:]))
        if facets.title:
            yield from self._titles.found_in(facets.title)
        if facets.url:
            yield from self._urls.found_in(facets.url)
        if facets.file:
            yield from self._files.found_in(facets.file.replace("\\", "/"))

    def _hinted(self, hint: str) -> str:
        """A source may suggest a category that exists; other words are its own."""
        hint = hint.strip().casefold()
        return self._hints.get(_WAKATIME_HINTS.get(hint, hint), "")


class _Patterns:
    """Expressions searched for together, in one pass over the text."""

    def __init__(self) -> None:
        self._set = re2.Set.SearchSet(_options(_MAX_SET_BYTES))
        self._ranks: list[_Rank] = []

    def add(self, expression: str, rank: _Rank) -> None:
        self._set.Add(expression)
        self._ranks.append(rank)

    def compile(self) -> None:
        """Raises: Invalid when the expressions do not fit into memory together."""
        try:
            if self._ranks:
                self._set.Compile()
        except re2.error as exc:
            message = "have expressions too large to search for together"
            raise Invalid.field("rules", message) from exc

    def found_in(self, text: str) -> Iterator[_Rank]:
        if self._ranks:
            for index in self._set.Match(text) or ():
                yield self._ranks[index]


_WAKATIME_HINTS = {
    "advising": "communication",
    "ai coding": "development",
    "building": "development",
    "code reviewing": "development",
    "coding": "development",
    "communicating": "communication",
    "debugging": "development",
    "designing": "design",
    "indexing": "development",
    "learning": "research",
    "manual testing": "development",
    "researching": "research",
    "running tests": "development",
    "supporting": "communication",
    "writing docs": "development",
    "writing tests": "development",
}
"""What WakaTime plugins call what they see; https://wakatime.com/developers#heartbeats."""


def _keep_best(ranks: dict[str, _Rank], key: str, rank: _Rank) -> None:
    ranks[key] = max(rank, ranks.get(key, rank))


def _found(ranks: dict[str, _Rank], key: str) -> Iterator[_Rank]:
    if key in ranks:
        yield ranks[key]


def _path_expression(pattern: str) -> str:
    """The regular expression of a path prefix or glob."""
    pattern = pattern.replace("\\", "/")
    if not set("*?") & set(pattern):
        return rf"\A{re.escape(pattern)}"
    meanings = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return rf"\A{''.join(meanings.get(part) or re.escape(part) for part in parts)}\z"


def _options(max_bytes: int) -> re2.Options:
    options = re2.Options()
    options.case_sensitive = False
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = max_bytes
    return options


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else b""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
