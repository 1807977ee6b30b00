"""Every statement is a named constant in a store, and PostgreSQL accepts it (ADR 0004)."""

import ast
import importlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from tests.architecture.sources import KEEPERS, functions, module_name, python_files, text, tree

# Where SQL may stand, besides the stores of the services.
CHASSIS_WITH_SQL = ("chassis.outbox", "chassis.relay", "chassis.inbox")
STATEMENT = re.compile(r"[A-Z][A-Z0-9_]*")
# A part that statements are made of; it must stand within one of them.
PART = re.compile(r"_[A-Z][A-Z0-9_]*")
LOOKS_LIKE_SQL = re.compile(
    r"\s*(--.*\n\s*)*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|"
    r"WITH\s+(RECURSIVE\s+)?\w+(\s*\([^)]*\))?\s+AS\s|LOCK\s+TABLE\s|TRUNCATE\s|CREATE\s+TABLE\s|"
    r"DROP\s+TABLE\s|ALTER\s+TABLE\s)"
)
ASYNCPG_CALLS = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchmany", "cursor"}


def is_store(path: Path) -> bool:
    match path.parts:
        case ("services", _, "store" | "store.py", *_):
            return True
    return False


def stores(service: str) -> list[str]:
    return [
        module_name(path)
        for path in python_files("services")
        if path.parts[1] == service and is_store(path)
    ]


def constants(module: str, kind: re.Pattern[str]) -> dict[str, str]:
    """The string constants that a module defines itself, tuples of them included, by name."""
    loaded = importlib.import_module(module)
    (path,) = (p for p in python_files("services", "chassis") if module_name(p) == module)
    defined = {
        target.id
        for node in tree(path).body
        for target in _targets(node)
        if isinstance(target, ast.Name)
    }
    found = {}
    for name in sorted(name for name in defined if kind.fullmatch(name)):
        match getattr(loaded, name):
            case str(sql):
                found[name] = sql
            case (str(), *_) as several:
                found |= {f"{name}[{place}]": sql for place, sql in enumerate(several)}
    return found


def _targets(node: ast.stmt) -> list[ast.expr]:
    match node:
        case ast.Assign(targets=targets):
            return targets
        case ast.AnnAssign(target=target):
            return [target]
    return []


def statements(modules: list[str]) -> dict[str, str]:
    return {
        f"{module}.{name}": sql
        for module in modules
        for name, sql in constants(module, STATEMENT).items()
    }


@pytest.mark.integration
@pytest.mark.parametrize("service", KEEPERS)
async def test_postgres_accepts_every_statement(
    service: str, database: Callable[[str], Awaitable[str]]
) -> None:
    found = statements(stores(service))
    assert found, "no statement found: this test would pass on nothing"
    chassis = {
        name: sql
        for name, sql in statements(list(CHASSIS_WITH_SQL)).items()
        if LOOKS_LIKE_SQL.match(sql)
    }
    assert len(chassis) >= 8
    connection = await asyncpg.connect(await database(service), ssl=False)
    refused = {}
    for name, sql in (found | chassis).items():
        try:
            await connection.prepare(sql)
        except asyncpg.PostgresError as error:
            refused[name] = f"{error} {getattr(error, 'hint', None) or ''}"
    await connection.close()
    assert not refused


@pytest.mark.parametrize("service", KEEPERS)
def test_parts_of_statements_are_used_in_one(service: str) -> None:
    modules = stores(service)
    whole = "\n".join(statements(modules).values())
    loose = [
        f"{module}.{name}"
        for module in modules
        for name, part in constants(module, PART).items()
        if part not in whole
    ]
    assert not loose


def docstrings(path: Path) -> set[int]:
    """The lines where docstrings begin: prose may begin with SELECT."""
    return {
        node.body[0].lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node)
    }


def sql_files() -> list[Path]:
    return [
        path
        for path in python_files("services", "chassis")
        if module_name(path) in CHASSIS_WITH_SQL or is_store(path)
    ]


def test_sql_stands_only_in_stores() -> None:
    elsewhere = [
        f"{path}:{node.lineno}"
        for path in python_files("services", "chassis")
        if path not in sql_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and LOOKS_LIKE_SQL.match(node.value)
        and node.lineno not in docstrings(path)
    ]
    assert not elsewhere


def test_no_statement_is_written_where_it_runs() -> None:
    """A store runs statements by name: what is built at run time can't be prepared here."""
    built = [
        f"{path}:{node.lineno} {ast.unparse(node.args[0])[:60]}"
        for path in sql_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ASYNCPG_CALLS
        and node.args
        and isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp | ast.Call)
    ]
    assert not built


def test_no_statement_is_put_together_inside_a_function() -> None:
    built = [
        f"{path}:{node.lineno}"
        for path in sql_files()
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and LOOKS_LIKE_SQL.match(node.value)
        and node.lineno not in docstrings(path)
    ]
    assert not built


def test_columns_are_named() -> None:
    starred = [
        f"{path}: {found}"
        for path in python_files("services", "chassis")
        for found in re.findall(r"SELECT \*(?! FROM unnest).*", text(path))
    ]
    assert not starred
