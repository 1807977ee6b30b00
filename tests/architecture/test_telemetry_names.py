"""Every name we emit is in the one list of chassis/telemetry.py, and every listed name is emitted."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.telemetry import ATTRIBUTES, METRICS, SPANS
from tests.architecture.sources import python_files, tree

THE_LIST = Path("chassis/telemetry.py")
OURS = re.compile(r"timeloom(\.[a-z][a-z0-9_]*)+")
# Names on the wire: timeloom.ingest.v1.IngestService.
PROTO = re.compile(r"timeloom\.[a-z]+\.v\d+(\..*)?")
INSTRUMENTS = re.compile(r"create_(observable_)?(counter|up_down_counter|histogram|gauge)")
KINDS = {"METRICS": METRICS, "ATTRIBUTES": ATTRIBUTES, "SPANS": SPANS}


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    """Every node of the code that runs, except the list itself."""
    for path in python_files("chassis", "services"):
        body = tree(path).body
        if path == THE_LIST:
            body = [node for node in body if not _is_list(node)]
        for part in body:
            for node in ast.walk(part):
                yield path, node


def _is_list(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id in KINDS
    )


def literals() -> Iterator[tuple[str, str]]:
    """Every string literal, with the place it stands at."""
    for path, node in nodes():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, f"{path}:{node.lineno}"


def spans() -> Iterator[tuple[ast.expr, str]]:
    """The first argument of every call of `telemetry.span`."""
    for path, node in nodes():
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="telemetry"), attr="span"), args=[name, *_]
            ):
                yield name, f"{path}:{node.lineno}"


def test_no_name_is_emitted_that_is_not_listed() -> None:
    listed = {entry.name for entry in (*METRICS, *ATTRIBUTES)}
    unlisted = {
        place: name
        for name, place in literals()
        if OURS.fullmatch(name) and not PROTO.fullmatch(name) and name not in listed
    }
    assert not unlisted


def test_no_span_has_a_name_that_is_not_listed() -> None:
    listed = {entry.name for entry in SPANS}
    unlisted = {
        place: name.value
        for name, place in spans()
        if isinstance(name, ast.Constant) and name.value not in listed
    }
    assert not unlisted


@pytest.mark.parametrize("kind", KINDS)
def test_every_listed_name_is_emitted_somewhere(kind: str) -> None:
    emitted = {name for name, _ in literals()}
    silent = [entry.name for entry in KINDS[kind] if entry.name not in emitted]
    assert not silent, "listed in chassis/telemetry.py and emitted by nothing"


def test_instruments_have_the_unit_that_the_list_says() -> None:
    units = {entry.name: entry.unit for entry in METRICS}
    wrong = {}
    for path, node in nodes():
        match node:
            case ast.Call(
                func=ast.Attribute(attr=method),
                args=[ast.Constant(value=str(name)), *rest],
                keywords=keywords,
            ) if INSTRUMENTS.fullmatch(method):
                given = [*rest, *(word.value for word in keywords if word.arg == "unit")]
                unit = next((a.value for a in given if isinstance(a, ast.Constant)), None)
                if unit != units.get(name):
                    wrong[f"{path}:{node.lineno}"] = (name, unit)
    assert not wrong


def test_names_are_sorted_by_area() -> None:
    areas = [entry.name.split(".")[1] for entry in METRICS]
    together = [area for n, area in enumerate(areas) if n == 0 or areas[n - 1] != area]
    assert len(set(together)) == len(together), "the names of one area stand together"
