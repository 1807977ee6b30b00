"""Errors as RFC 9457 problems. The only place that picks HTTP status codes."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException

from chassis import telemetry
from chassis.errors import AppError, Exhausted, Violation
from chassis.log import get_logger
from services.gateway.payloads.decode import Malformed
from services.gateway.payloads.problem import FieldError, Problem
from services.gateway.tokens import BadCredential

log = get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:timeloom:problem:"
CHALLENGE: Final = 'Bearer realm="timeloom"'


_MISSING: Final = re.compile(r"Missing required (\w+ )?parameter '(?P<name>[^']+)'")


class TooLarge(Exhausted):
    """The body is larger than this accepts."""


class Kind(NamedTuple):
    """A kind of problem: the end of its type, its status and title."""

    name: str
    status: int
    title: str


KINDS: Final = (
    Kind("malformed", 400, "The request can't be read"),
    Kind("unauthenticated", 401, "A valid credential is needed"),
    Kind("forbidden", 403, "This is not allowed"),
    Kind("not_found", 404, "There is no such thing"),
    Kind("method_not_allowed", 405, "The method is not allowed here"),
    Kind("conflict", 409, "The current state does not allow it"),
    Kind("too_large", 413, "The body is too large"),
    Kind("invalid", 422, "The request is not valid"),
    Kind("exhausted", 429, "Too many requests"),
    Kind("internal", 500, "Something went wrong here"),
    Kind("unavailable", 503, "The service is not available right now"),
)
BY_NAME: Final = {kind.name: kind for kind in KINDS}
BY_STATUS: Final = {kind.status: kind for kind in KINDS}
# Narrower classes than the six kinds, that HTTP has an answer of its own for.
BY_CLASS: Final[Mapping[type[AppError], Kind]] = {
    Malformed: BY_NAME["malformed"],
    BadCredential: BY_NAME["unauthenticated"],
    TooLarge: BY_NAME["too_large"],
}


def problem_of(error: Exception) -> tuple[Problem, dict[str, str]]:
    """The problem an error is to the outside, and the headers that go with it."""
    headers: dict[str, str] = {}
    violations: tuple[Violation, ...] = ()
    match error:
        case AppError():
            kind = BY_CLASS.get(type(error)) or BY_NAME.get(error.kind, BY_NAME["internal"])
            detail, violations = str(error), error.violations
            if error.retry_after_seconds > 0 or kind.status == 429:
                headers["retry-after"] = str(max(1, round(error.retry_after_seconds + 0.5)))
        case HTTPException() if error.status_code < 500:
            kind, detail, violations = _of_litestar(error)
            headers.update(error.headers or {})
        case _:
            kind, detail = BY_NAME["internal"], ""
    if kind.status == 401:
        headers["www-authenticate"] = CHALLENGE
    return _problem(kind, detail, violations), headers


def _problem(kind: Kind, detail: str, violations: tuple[Violation, ...]) -> Problem:
    return Problem(
        type=TYPE_PREFIX + kind.name,
        title=kind.title,
        status=kind.status,
        detail=detail,
        errors=[FieldError(field=field, message=message) for field, message in violations],
        trace_id=telemetry.trace_id(),
    )


def _of_litestar(error: HTTPException) -> tuple[Kind, str, tuple[Violation, ...]]:
    """Routing, body size and parameters are the framework's to refuse."""
    violations = tuple(
        Violation(str(item.get("key", "")).rstrip("_"), str(item.get("message", "")))
        for item in (error.extra if isinstance(error.extra, list) else ())
        if isinstance(item, dict)
    )
    if missing := _MISSING.match(error.detail):
        violations = (Violation(missing["name"], "is required"),)
    if violations:
        wrong = "; ".join(f"{field}: {message}" for field, message in violations)
        return BY_NAME["invalid"], wrong, violations
    kind = BY_STATUS.get(error.status_code, BY_NAME["malformed"])
    return kind, error.detail if kind.status == 400 else kind.title + ".", ()


def encoded(error: Exception) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers; what nobody expected is logged here, once."""
    problem, headers = problem_of(error)
    if problem.status == 500 and not _client_left(error):
        log.error("http.failed", exc_info=error)
    return problem.status, msgspec.json.encode(problem), headers


def respond(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's way in: the handler of every exception."""
    status, body, headers = encoded(error)
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


async def send(error: Exception, send_: Any) -> None:
    """Answers with a problem outside the framework; `send_` is ASGI's."""
    status, body, headers = encoded(error)
    await send_answer(send_, status, body, {**headers, "content-type": MEDIA_TYPE})


async def send_answer(send_: Any, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """A whole answer by ASGI's `send`."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send_({"type": "http.response.start", "status": status, "headers": raw})
    await send_({"type": "http.response.body", "body": body})


def _client_left(error: Exception) -> bool:
    return isinstance(error, InternalServerException) and "disconnected" in error.detail
