"""What must never be committed, and what our code never does."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, files, is_generated, python_files, text, tree

# Written in two halves, so that this file keeps its own rules.
HOSTS = ["pyp" + "i.org", "python" + "hosted.org", "registry.npm" + "js", "deb.deb" + "ian"]
PLACES = ["/wo" + "rk/", "/ro" + "ot/", ".pye" + "nv"]
LEFTOVERS = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK", "NotImplemented" + "Error"]
BINARY = {".png", ".ico", ".woff2", ".gz"}

OURS = ("chassis", "services", "deploy", "tools", "bench", "sdk")


def readable() -> list[Path]:
    return [path for path in files() if path.suffix not in BINARY]


def lines_with(words: list[str], paths: list[Path]) -> list[str]:
    """Where a word stands, whole words only when it is made of letters."""
    patterns = [rf"\b{re.escape(w)}\b" if w.isalpha() else re.escape(w) for w in words]
    wanted = re.compile("|".join(patterns))
    return [
        f"{path}:{number}: {line.strip()[:80]}"
        for path in paths
        for number, line in enumerate(text(path).splitlines(), start=1)
        if wanted.search(line)
    ]


def calls(path: Path) -> list[tuple[str, int]]:
    """The dotted name of everything a file calls, and the line."""
    return [
        (ast.unparse(node.func), node.lineno)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    ]


def test_no_file_names_a_registry_or_a_place_on_somebodys_machine() -> None:
    assert not lines_with(HOSTS + PLACES, readable())


def test_the_lock_file_is_the_one_without_hosts() -> None:
    assert Path("uv.lock") not in files()
    lock = text(Path("requirements.lock"))
    assert "--hash=sha256:" in lock
    assert "://" not in lock


def test_nothing_was_left_for_later() -> None:
    written_by_hand = [path for path in readable() if not is_generated(path)]
    assert not lines_with(LEFTOVERS, [p for p in written_by_hand if p.suffix != ".lock"])


def test_no_binary_slipped_in() -> None:
    assert not [str(path) for path in readable() if b"\0" in (ROOT / path).read_bytes()[:8000]]


def test_fakes_are_passed_in_and_nothing_is_patched_from_outside() -> None:
    patched = [
        f"{path}:{node.lineno}"
        for path in python_files(*OURS, "tests")
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Import) and {a.name for a in node.names} & {"unittest.mock"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module in {"unittest", "unittest.mock", "mock"}
        )
        or (isinstance(node, ast.arg) and node.arg == "mocker")
    ]
    assert not patched


def test_nothing_blocks_the_loop_by_sleeping() -> None:
    asleep = [
        f"{path}:{line}"
        for path in python_files(*OURS)
        for name, line in calls(path)
        if name == "time.sleep"
    ]
    assert not asleep


def test_tests_wait_for_something_instead_of_sleeping() -> None:
    asleep = [
        f"{path}:{line}"
        for path in python_files("tests")
        if path != Path("tests/support/eventually.py")
        for name, line in calls(path)
        if name in {"time.sleep", "asyncio.sleep"} and "sleep(0)" not in source_line(path, line)
    ]
    assert not asleep


def source_line(path: Path, number: int) -> str:
    return text(path).splitlines()[number - 1]


def test_every_test_can_fail() -> None:
    """A test asserts, expects an error, or waits for a condition; a helper of its file may do it."""
    idle = []
    for path in python_files("tests"):
        checking = {
            node.name
            for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _checks(node, set())
        }
        idle += [
            f"{path}:{node.lineno} {node.name}"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and path.name.startswith("test_")
            and not _checks(node, checking)
        ]
    assert not idle


def _checks(function: ast.AST, checking: set[str]) -> bool:
    words = ("raises", "assert", "eventually", "check", "expect", "verify", "wait_until")
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in checking or any(word in name for word in words):
                return True
    return False


NAMED_WITH_REASON = re.compile(r"(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*|\[[a-z, -]+\])\s+\S*\s*\w+")


def test_ruff_and_mypy_are_silenced_by_name_and_with_a_reason() -> None:
    silenced = re.compile(r"#\s*(noqa|type:\s*ignore)(?P<rest>.*)")
    vague = []
    for path in python_files(*OURS):
        for number, line in enumerate(text(path).splitlines(), start=1):
            match = silenced.search(line)
            if match and not NAMED_WITH_REASON.match(match["rest"]):
                vague.append(f"{path}:{number}: {line.strip()[:90]}")
    assert not vague


def test_the_licence_is_named_by_its_spdx_id() -> None:
    project = tomllib.loads(text(Path("pyproject.toml")))["project"]
    assert project["license"] == "Apache-2.0"


@pytest.mark.parametrize("folder", ["chassis", "services", "deploy", "tools"])
def test_every_package_is_a_package(folder: str) -> None:
    """A folder without __init__.py is skipped by mypy and import-linter without a word."""
    folders = {path.parent for path in python_files(folder)}
    assert not [str(f) for f in sorted(folders) if not (ROOT / f / "__init__.py").exists()]
