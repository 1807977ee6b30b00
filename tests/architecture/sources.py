"""The files of the repository, as the rules about them see them."""

import ast
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "ingest", "realtime", "scheduler", "sessions")
# The services that keep something in PostgreSQL.
KEEPERS = ("gateway", "ingest", "scheduler", "sessions")
SOURCE_FOLDERS = ("chassis", "services", "deploy", "tools", "bench", "sdk")


@cache
def files() -> tuple[Path, ...]:
    """Every file that is committed or about to be, relative to the root, sorted."""
    git = shutil.which("git")
    assert git, "git lists the files"
    listed = subprocess.run(
        [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = sorted({Path(name) for name in listed.split("\0") if name})
    return tuple(path for path in paths if (ROOT / path).is_file())


def is_generated(path: Path) -> bool:
    """Whether protoc wrote it."""
    return "_pb2" in path.name


def python_files(*folders: str) -> tuple[Path, ...]:
    """Hand-written Python below the folders, tests only when asked for."""
    return tuple(
        path
        for path in files()
        if path.suffix == ".py" and path.parts[0] in folders and not is_generated(path)
    )


def domain_files() -> tuple[Path, ...]:
    """The pure part of every service."""
    return tuple(
        path
        for path in python_files("services")
        if len(path.parts) > 2 and path.parts[2] in {"domain", "domain.py"}
    )


@cache
def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file, nested ones included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def module_name(path: Path) -> str:
    """The import name of a file: `services/x/store/__init__.py` is services.x.store."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
