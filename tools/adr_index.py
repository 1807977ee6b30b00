"""The index of the decisions, and the form each one keeps: `python -m tools.adr_index`.

docs/adr/README.md is made of the files beside it. A decision is one page: a title, then Context,
Decision (whose first sentence, in bold, is the decision), Consequences, Reversed by.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "adr"
INDEX: Final = "README.md"
SECTIONS: Final = ["Context", "Decision", "Consequences", "Reversed by"]
# One page.
MAX_WORDS: Final = 600

_FILE: Final = re.compile(r"(?P<number>\d{4})-(?P<slug>[a-z0-9]+(-[a-z0-9]+)*)\.md")
_TITLE: Final = re.compile(r"# (?P<number>\d{4}) (?P<title>.+)")
_SUMMARY: Final = re.compile(r"\*\*(?P<summary>[^*]+[.!])\*\*")

HEAD: Final = """\
# Decisions

Each page says what was decided, why, what follows from it and what would reverse it.
A new decision takes the next number; one that no longer holds says so at its top and stays.
This page is made by `make docs` from the pages beside it.

| | decision | in one sentence |
|---|---|---|
"""


class Adr(NamedTuple):
    """One decision. `summary` is one sentence."""

    number: str
    title: str
    summary: str
    file: str


class Malformed(Exception):
    """A page does not keep the form; says which and how."""


def read(path: Path) -> Adr:
    """One decision from its page.

    Raises:
        Malformed: it does not keep the form.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    name, title = _FILE.fullmatch(path.name), _TITLE.fullmatch(lines[0] if lines else "")
    if name is None:
        raise Malformed(f"{path.name}: is not named NNNN-words-of-the-title.md")
    if title is None or title["number"] != name["number"]:
        raise Malformed(f"{path.name}: does not begin with `# {name['number']} Title`")
    if slug(title["title"]) != name["slug"]:
        raise Malformed(f"{path.name}: its title makes {slug(title['title'])}")
    if [line[3:] for line in lines if line.startswith("## ")] != SECTIONS:
        raise Malformed(f"{path.name}: its sections are not {', '.join(SECTIONS)}")
    if (words := len(text.split())) > MAX_WORDS:
        raise Malformed(f"{path.name}: has {words} words, more than {MAX_WORDS}")
    decision = text.partition("## Decision\n")[2].lstrip()
    summary = _SUMMARY.match(decision)
    if summary is None:
        raise Malformed(f"{path.name}: its decision does not begin with one sentence in bold")
    return Adr(name["number"], title["title"], " ".join(summary["summary"].split()), path.name)


def slug(title: str) -> str:
    """The words of a title as they stand in a file name."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower().replace("'", "")))


def read_all(folder: Path = FOLDER) -> list[Adr]:
    """Every decision, by number.

    Raises:
        Malformed: a page does not keep the form, or a number is missing or taken twice.
    """
    found = [read(path) for path in sorted(folder.glob("*.md")) if path.name != INDEX]
    for place, adr in enumerate(found, start=1):
        if int(adr.number) != place:
            raise Malformed(f"{adr.file}: {place:04} comes next")
    return found


def render(adrs: Sequence[Adr]) -> str:
    """The index."""
    return HEAD + "".join(_rows(adrs))


def _rows(adrs: Sequence[Adr]) -> Iterator[str]:
    for adr in adrs:
        yield f"| {adr.number} | [{adr.title}]({adr.file}) | {adr.summary} |\n"


def main() -> int:
    """Writes the index."""
    try:
        adrs = read_all()
    except Malformed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    (FOLDER / INDEX).write_text(render(adrs), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
