"""The outermost layer of every HTTP request: span, request id, security headers, metrics."""

import re
from collections.abc import Iterable
from typing import Any, Final

from litestar.types import ASGIApp, Receive, Scope, Send
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import NonRecordingSpan, Span, SpanKind

from chassis import telemetry
from chassis.clock import Clock
from chassis.errors import AppError, Invalid, Unavailable
from services.gateway import problems

SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    # The few pages there are bring their own style and run nothing.
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ),
    (b"cache-control", b"no-store"),
)
# What is echoed goes into logs and headers of others.
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
UNROUTED: Final = "(none)"
# These wait by design and have bounds of their own: connections a person (hub.py), and requests
# held (hold.py), whose clients lose what is refused.
UNCOUNTED: Final = ("/v1/live/sse", "/api/0/")

Route = tuple[str, str, int]
_requests: Final[dict[Route, int]] = {}
_duration = telemetry.meter.create_histogram("timeloom.http.duration", "s")


def _observe(_options: CallbackOptions) -> Iterable[Observation]:
    # Counted in a dict and read when asked: a tenth of the cost of a counter per request.
    for (method, route, status), count in list(_requests.items()):
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        yield Observation(count, attributes)


telemetry.meter.create_observable_counter(
    "timeloom.http.requests", callbacks=[_observe], unit="{request}"
)


class Edge:
    """Wraps the application; WebSockets pass through untouched."""

    def __init__(self, app: ASGIApp, *, clock: Clock, max_requests: int) -> None:
        self._app = app
        self._clock = clock
        self._max_requests = max_requests
        self._running = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._clock.monotonic()
        parent, request_id = _tracing(scope["headers"])
        method = str(scope.get("method", ""))
        # By hand: `telemetry.span` costs twice as much, and this is every request.
        span = telemetry.tracer.start_span(method, context=parent, kind=SpanKind.SERVER)
        token = context.attach(trace.set_span_in_context(span))
        status = 500

        async def respond(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", request_id or telemetry.trace_id().encode())
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS, own]
            await send(message)

        counts = 0 if scope["path"].startswith(UNCOUNTED) else 1
        self._running += counts
        try:
            if refusal := self._refusal(scope):
                await problems.send(refusal, respond)
            else:
                await self._app(scope, receive, respond)
        finally:
            self._running -= counts
            context.detach(token)
            route = str(scope.get("path_template", UNROUTED))
            _count(method, route, status, self._clock.monotonic() - started)
            _end(span, method, route, status)

    def _refusal(self, scope: Scope) -> AppError | None:
        is_counted = not scope["path"].startswith(UNCOUNTED)
        if is_counted and self._running > self._max_requests:
            return Unavailable("Too many requests at once.", retry_after_seconds=1.0)
        # PostgreSQL can't keep it, and nobody means it.
        if b"%00" in scope["query_string"] or "\0" in scope["path"]:
            return Invalid("The address contains the character U+0000.")
        return None


def _end(span: Span, method: str, route: str, status: int) -> None:
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attribute("http.request.method", method)
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_attribute("error.type", str(status))
    span.end()


def _count(method: str, route: str, status: int, seconds: float) -> None:
    key = (method, route, status)
    _requests[key] = _requests.get(key, 0) + 1
    _duration.record(seconds, {"http.request.method": method, "http.route": route})


def _tracing(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Context | None, bytes]:
    """The caller's span and `X-Request-ID`; nothing where absent or not fit to be used."""
    parent, request_id = None, b""
    for name, value in headers:
        if name == b"traceparent":
            parent = telemetry.parse_traceparent(value.decode("latin-1"))
        elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            request_id = value
    if parent is None:
        return None, request_id
    return trace.set_span_in_context(NonRecordingSpan(parent), Context()), request_id
