"""Each error kind has one status, and unknown errors say nothing."""

import msgspec
import pytest
from litestar.exceptions import MethodNotAllowedException, ValidationException

from chassis.errors import (
    KINDS,
    AppError,
    Conflict,
    Exhausted,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
)
from services.gateway import problems
from services.gateway.payloads.decode import Malformed, decode
from services.gateway.payloads.text import Name
from services.gateway.problems import TooLarge, problem_of
from services.gateway.tokens import BadCredential


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid.field("name", "no"), 422),
        (Malformed("no"), 400),
        (NotFound(), 404),
        (Conflict(), 409),
        (Forbidden(), 403),
        (BadCredential(), 401),
        (Exhausted(retry_after_seconds=1.2), 429),
        (TooLarge(), 413),
        (Unavailable(), 503),
    ],
)
def test_kinds_have_statuses(error: AppError, status: int) -> None:
    problem, _ = problem_of(error)
    assert problem.status == status
    assert problem.detail == str(error)
    assert [(one.field, one.message) for one in problem.errors] == list(error.violations)


def test_every_kind_of_the_chassis_is_known() -> None:
    for kind in KINDS.values():
        assert problem_of(kind())[0].status != 500


def test_waiting_times_are_whole_seconds_and_never_zero() -> None:
    for seconds, shown in ((0.0, "1"), (0.2, "1"), (1.0, "2"), (59.4, "60")):
        headers = problem_of(Exhausted(retry_after_seconds=seconds))[1]
        assert int(headers["retry-after"]) >= seconds
        assert headers["retry-after"] == shown


def test_an_unexpected_error_tells_nothing() -> None:
    problem, headers = problem_of(RuntimeError("password is hunter2"))
    assert problem.status == 500
    assert problem.type == "urn:timeloom:problem:internal"
    assert "hunter2" not in msgspec.json.encode(problem).decode()
    assert headers == {}


def test_what_the_framework_refuses_is_a_problem_too() -> None:
    problem, headers = problem_of(MethodNotAllowedException(headers={"allow": "GET"}))
    assert (problem.status, headers["allow"]) == (405, "GET")
    wrong = ValidationException("x", extra=[{"key": "limit", "message": "Expected `int`"}])
    assert [one.field for one in problem_of(wrong)[0].errors] == ["limit"]
    missing = ValidationException("Missing required query parameter 'from' for path /v1/days")
    assert [one.field for one in problem_of(missing)[0].errors] == ["from"]


def test_types_are_unique_and_titles_are_for_people() -> None:
    assert len({kind.name for kind in problems.KINDS}) == len(problems.KINDS)
    assert len({kind.status for kind in problems.KINDS}) == len(problems.KINDS)


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inner: list[Inner]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"inner":[{"name":1}]}', "inner[0].name"),
        (b'{"inner":[{"name":"a"},{}]}', "inner[1].name"),
        (b'{"inner":[{"name":"a","x y":1}]}', "inner[0].x y"),
        (b'{"inner":[{"name":""}]}', "inner[0].name"),
        (b'{"inner":[{"name":"\\u0000"}]}', "inner[0].name"),
        (b'{"other":1}', "other"),
        (b"{}", "inner"),
        (b"[]", ""),
    ],
)
def test_fields_are_named_as_the_sender_spells_them(content: bytes, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode(content, Outer)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert not isinstance(caught.value, Malformed)


def test_a_very_long_unknown_field_is_cut() -> None:
    with pytest.raises(Invalid) as caught:
        decode(msgspec.json.encode({"x" * 100_000: 1}), Outer)
    assert len(caught.value.violations[0].field) <= 200
    assert len(str(caught.value)) < 1000
