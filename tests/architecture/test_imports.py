"""The architecture in four sentences, kept by import-linter (contracts in pyproject.toml)."""

import ast
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.architecture.sources import ROOT, domain_files, module_name, python_files, tree


def test_the_import_contracts_hold() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run(
        [linter, "--no-cache"],
        cwd=ROOT,
        env={"PATH": str(linter.parent), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def imported(path: Path) -> set[str]:
    """The modules a file imports, by their first name."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_services_and_chassis_do_not_lean_on_tests_or_tools() -> None:
    leaning = {
        module_name(path): found
        for path in python_files("chassis", "services")
        if (found := imported(path) & {"tests", "tools", "bench", "deploy", "sdk"})
    }
    assert not leaning


def test_the_sdk_imports_nothing_of_ours() -> None:
    ours = {"chassis", "services", "protos", "deploy", "tools", "bench", "tests"}
    leaning = {str(path): found for path in python_files("sdk") if (found := imported(path) & ours)}
    assert not leaning


def test_domains_import_only_the_standard_library_and_each_other() -> None:
    # Functions of values too, whatever package they come from.
    pure = {"msgspec", "re2", "cronsim", "email_validator", "chassis", "services"}
    impure = {
        module_name(path): found
        for path in domain_files()
        if (found := imported(path) - pure - sys.stdlib_module_names)
    }
    assert not impure


def test_domains_neither_wait_nor_look_at_a_clock() -> None:
    waiting = [
        f"{path}:{node.lineno}"
        for path in domain_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor)
    ]
    assert not waiting
