"""Logs are one JSON object a line, with the trace they belong to."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import logging, sys
from chassis.log import configure, get_logger
from chassis import telemetry
configure("sample", sys.argv[1])
log = get_logger("sample.module")
log.debug("detail.seen")
log.info("session.closed", user_id="u1", note="two\\nlines")
telemetry.set_up("sample", sample_ratio=0.0)
with telemetry.span("job run"):
    log.warning("inside.span")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("sum.failed")
logging.getLogger("library").info("chatter")
logging.getLogger("library").error("trouble in %s", "a library")
"""


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    return printed("info")


def printed(level: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, level],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def events(lines: list[dict[str, Any]]) -> list[str]:
    return [line["event"] for line in lines]


def test_each_line_says_what_where_when_and_by_whom(lines: list[dict[str, Any]]) -> None:
    first = lines[0]
    assert first["event"] == "session.closed"
    assert first["level"] == "info"
    assert first["module"] == "sample.module"
    assert first["service"] == "sample"
    assert first["user_id"] == "u1"
    assert first["note"] == "two\nlines"
    assert first["timestamp"].endswith("Z")


def test_a_line_inside_a_span_carries_its_trace(lines: list[dict[str, Any]]) -> None:
    inside = next(line for line in lines if line["event"] == "inside.span")
    assert len(inside["trace_id"]) == 32
    assert len(inside["span_id"]) == 16
    assert "trace_id" not in lines[0]


def test_an_exception_brings_its_traceback_within_the_line(lines: list[dict[str, Any]]) -> None:
    failed = next(line for line in lines if line["event"] == "sum.failed")
    assert "ZeroDivisionError" in failed["exception"]


def test_libraries_speak_up_only_when_something_is_wrong(lines: list[dict[str, Any]]) -> None:
    assert "chatter" not in events(lines)
    assert lines[-1]["event"] == "trouble in a library"
    assert lines[-1]["level"] == "error"


def test_the_level_decides_what_is_written(lines: list[dict[str, Any]]) -> None:
    assert "detail.seen" not in events(lines)
    assert "detail.seen" in events(printed("debug"))
    assert events(printed("error")) == ["sum.failed", "trouble in a library"]
