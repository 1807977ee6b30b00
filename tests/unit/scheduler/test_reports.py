"""Reports as the bus brings them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Invalid
from protos.scheduler.v1.announcements_pb2 import RunReported
from services.scheduler.consumers import MAX_RESULT_CHARACTERS, read_report
from services.scheduler.domain.plans import SUITE

RUN = "01930f5e-7a2b-7c3d-8e4f-5a6b7c8d9e0f"


def message(**fields: object) -> RunReported:
    known = {"run_id": RUN, "attempt": 1, "lease_token": 5, "state": "started", "at_us": 7}
    return RunReported(**{**known, **fields})  # type: ignore[arg-type]  # wrong on purpose


def test_a_report_without_an_organization_is_about_the_suite() -> None:
    assert read_report(message()).org_id == SUITE
    assert str(read_report(message(org_id=RUN)).org_id) == RUN


@pytest.mark.parametrize(
    "fields",
    [
        {"run_id": ""},
        {"run_id": "x"},
        {"org_id": "x"},
        {"state": ""},
        {"state": "lost"},
        {"state": "queued"},
        {"at_us": 0},
        {"at_us": -5},
        {"at_us": 2**62},
    ],
    ids=str,
)
def test_what_no_worker_says_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        read_report(message(**fields))


@given(st.floats())
def test_progress_is_a_share(progress: float) -> None:
    read = read_report(message(progress=progress)).progress
    assert 0.0 <= read <= 1.0
    assert not math.isnan(read)


def test_text_fits_its_columns() -> None:
    read = read_report(message(error_message="a\x00b" + "x" * 5000, worker="\x00"))
    assert read.error_message.startswith("abx")
    assert len(read.error_message) == 2000
    assert read.worker == ""


def test_a_result_that_is_too_large_does_not_fail_the_run() -> None:
    read = read_report(message(state="succeeded", result_json="x" * (MAX_RESULT_CHARACTERS + 1)))
    assert read.state == "succeeded"
    assert read.result == '{"omitted":"too large","characters":65537}'
