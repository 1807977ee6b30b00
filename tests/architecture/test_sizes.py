"""Files and functions stay small enough to read in one go (style.md, "Shape")."""

import ast
from pathlib import Path
from statistics import quantiles

import pytest

from tests.architecture.sources import SOURCE_FOLDERS, functions, python_files, text

FILE_CAP, FILE_P90 = 450, 300
FUNCTION_CAP, FUNCTION_P90 = 60, 35

TREES = [SOURCE_FOLDERS, ("tests",)]


def lines(path: Path) -> int:
    return len(text(path).splitlines())


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the last statement."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def p90(sizes: list[int]) -> float:
    return quantiles(sizes, n=10)[-1]


@pytest.mark.parametrize("folders", TREES, ids=["source", "tests"])
def test_no_file_passes_the_cap(folders: tuple[str, ...]) -> None:
    long = {str(path): lines(path) for path in python_files(*folders) if lines(path) > FILE_CAP}
    assert not long, f"longer than {FILE_CAP} lines"


@pytest.mark.parametrize("folders", TREES, ids=["source", "tests"])
def test_no_function_passes_the_cap(folders: tuple[str, ...]) -> None:
    long = {
        f"{path}:{function.lineno} {function.name}": length(function)
        for path in python_files(*folders)
        for function in functions(path)
        if length(function) > FUNCTION_CAP
    }
    assert not long, f"longer than {FUNCTION_CAP} lines"


def test_nine_files_in_ten_are_short() -> None:
    sizes = sorted((lines(path), str(path)) for path in python_files(*SOURCE_FOLDERS))
    assert p90([size for size, _ in sizes]) <= FILE_P90, sizes[-len(sizes) // 10 :]


def test_nine_functions_in_ten_are_short() -> None:
    sizes = [length(one) for path in python_files(*SOURCE_FOLDERS) for one in functions(path)]
    assert p90(sizes) <= FUNCTION_P90
