"""The six kinds of failure."""

import pytest

from chassis.errors import KINDS, AppError, Exhausted, Invalid, NotFound, Violation


def test_there_are_six_kinds_and_each_names_itself() -> None:
    assert set(KINDS) == {
        "invalid",
        "not_found",
        "conflict",
        "forbidden",
        "exhausted",
        "unavailable",
    }
    assert all(KINDS[kind].kind == kind for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS.values())
def test_without_a_message_the_first_line_of_the_docstring_speaks(kind: type[AppError]) -> None:
    assert kind.__doc__ is not None
    assert str(kind()) == kind.__doc__.splitlines()[0]
    assert str(kind("Said otherwise.")) == "Said otherwise."


def test_a_wrong_field_is_named_in_the_message_and_as_a_violation() -> None:
    error = Invalid.field("events[3].start", "must not lie in the future")
    assert str(error) == "events[3].start: must not lie in the future"
    assert error.violations == (Violation("events[3].start", "must not lie in the future"),)


def test_a_limit_may_say_when_to_come_back() -> None:
    assert Exhausted("Slow down.", retry_after_seconds=1.5).retry_after_seconds == 1.5
    assert NotFound().retry_after_seconds == 0.0
