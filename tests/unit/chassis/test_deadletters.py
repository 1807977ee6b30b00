"""What a dead letter says about its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.deadletters import MAX_ERROR_CHARACTERS, fingerprint, header_text


@given(st.text())
def test_error_text_fits_a_header(text: str) -> None:
    header = header_text(text)
    assert header.isascii()
    assert header.isprintable()
    # An escaped character takes at most ten: \U0001f600.
    assert len(header) <= 10 * MAX_ERROR_CHARACTERS


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("plain words", "plain words"),
        ("two\r\nlines: X-Header", "two lines: X-Header"),
        ("ö", "\\xf6"),
        ("  around  ", "around"),
    ],
)
def test_error_text_is_one_line_of_ascii(text: str, header: str) -> None:
    assert header_text(text) == header


def test_letters_with_one_cause_share_a_fingerprint() -> None:
    mine = fingerprint("sessions-activity-3", "KeyError", "timeloom.ingest.v1.ActivityRecorded")
    again = fingerprint("sessions-activity-3", "KeyError", "timeloom.ingest.v1.ActivityRecorded")
    assert mine == again
    assert len(mine) == 16
    assert mine != fingerprint(
        "sessions-activity-3", "ValueError", "timeloom.ingest.v1.ActivityRecorded"
    )
