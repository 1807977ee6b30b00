"""How ActivityWatch's clients get in and are answered: who they are, holding, errors, browsers."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from litestar import HttpMethod, MediaType, Request, Response, Router, route
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from litestar.types import ASGIApp

from chassis.errors import NotFound
from chassis.identity import Principal
from services.gateway import problems
from services.gateway.activitywatch import Events
from services.gateway.auth import Authenticator
from services.gateway.buckets import Buckets
from services.gateway.hold import TRY_SECONDS, Holder
from services.gateway.http.provide import identify
from services.gateway.http.request import StrictRequest
from services.gateway.rate_limit import RateLimits

Result = TypeVar("Result")

# A client that waits for an answer longer than this has usually given up.
PATIENCE_SECONDS: Final = 30.0
# For what may be thousands of events.
BULK_SECONDS: Final = 300.0
# The browser extensions of ActivityWatch; ours is none of theirs, so pages need GATEWAY_CORS_ORIGINS.
EXTENSIONS: Final = re.compile(
    r"moz-extension://[0-9a-f-]{36}|chrome-extension://nglaklhklhcoonedhgnpgddginnjdadi"
)
PATHS: Final = ["/", "/{rest:path}"]


class ActivityWatch:
    """What the handlers of the dialect share."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        limits: RateLimits,
        holder: Holder,
        buckets: Buckets,
        events: Events,
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._holder = holder
        self.buckets = buckets
        self.events = events

    async def reader(self, request: StrictRequest) -> Principal:
        """Whoever asks, if they may read.

        Raises:
            BadCredential, Exhausted, Forbidden: they may not.
        """
        return await self._identify(request, "read")

    async def write(
        self,
        request: StrictRequest,
        work: Callable[[Principal], Awaitable[Result]],
        *,
        as_long_as_it_takes: bool = False,
        try_seconds: float = TRY_SECONDS,
    ) -> Result:
        """What `work` returns for whoever asks; held while something is away (hold.py).

        The body of the request was read. `work` may be repeated, and is after `try_seconds`.
        """

        async def attempt() -> Result:
            return await work(await self._identify(request, "events:write"))

        return await self._holder.until_done(
            attempt,
            receive=request.receive,
            patience_seconds=None if as_long_as_it_takes else PATIENCE_SECONDS,
            try_seconds=try_seconds,
        )

    async def _identify(self, request: StrictRequest, scope: str) -> Principal:
        caller = await identify(request, self._authenticator, self._limits)
        caller.principal.require_scope(scope)
        return caller.principal


async def array(pages: AsyncIterator[Sequence[Any]]) -> Response[Any]:
    """One JSON array of all pages; sent as it is read when there is more than one page."""
    first = await anext(pages, None) or []
    second = await anext(pages, None)
    if second is None:
        return Response(list(first))
    return Stream(_array(first, second, pages), media_type=MediaType.JSON)


async def _array(
    first: Sequence[Any], second: Sequence[Any], rest: AsyncIterator[Sequence[Any]]
) -> AsyncIterator[bytes]:
    yield b"[" + elements(first)
    yield b"," + elements(second)
    async for page in rest:
        if page:
            yield b"," + elements(page)
    yield b"]"


def elements(items: Sequence[Any]) -> bytes:
    """The inside of a JSON array."""
    return msgspec.json.encode(items)[1:-1]


def respond(_request: Request[Any, Any, Any], error: Any) -> Response[dict[str, Any]]:
    """Errors as these clients know them: a message, and the status, which is all they look at."""
    problem, headers = problems.problem_of(error)
    if problem.status == 500:
        problems.encoded(error)
    body: dict[str, Any] = {"message": problem.detail or problem.title}
    if problem.errors:
        body["errors"] = {wrong.field: wrong.message for wrong in problem.errors}
    if problem.status == 401:
        headers["www-authenticate"] = 'Basic realm="timeloom"'
    # Here what is wrong with a body is always 400.
    status = 400 if problem.status == 422 else problem.status
    return Response(body, status_code=status, headers=headers)


def letting_extensions_in(app: ASGIApp) -> ASGIApp:
    """Middleware: ActivityWatch's browser extensions may read the answers."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        origin = dict(scope["headers"]).get(b"origin", b"")
        if not EXTENSIONS.fullmatch(origin.decode("latin-1")):
            await app(scope, receive, send)
            return

        async def allow(message: Any) -> None:
            if message["type"] == "http.response.start":
                allowed = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
                message["headers"] = [*message["headers"], *allowed]
            await send(message)

        await app(scope, receive, allow)

    return call


def preflight(request: StrictRequest) -> Response[None]:
    """Answers what browsers ask before they let an extension call."""
    headers = {}
    if EXTENSIONS.fullmatch(request.headers.get("origin", "")):
        headers = {
            "access-control-allow-methods": "GET, POST, PUT, DELETE",
            "access-control-allow-headers": "authorization, content-type, x-api-key",
            "access-control-max-age": "600",
        }
    return Response(None, status_code=200, headers=headers)


@route(
    PATHS,
    http_method=[HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.DELETE],
    include_in_schema=False,
    sync_to_thread=False,
)
def unknown(request: StrictRequest) -> None:
    """Queries and settings live elsewhere here."""
    raise NotFound(f"There is no {request.url.path} here")


def router(handlers: Sequence[HTTPRouteHandler]) -> Router:
    """The dialect with its own errors."""
    paths = sorted({path for handler in handlers for path in handler.paths} | set(PATHS))
    ask = route(
        paths, http_method=[HttpMethod.OPTIONS], include_in_schema=False, sync_to_thread=False
    )
    return Router(
        path="/api/0",
        # First, or Litestar's own answer would already be there.
        route_handlers=[ask(preflight), *handlers, unknown],
        exception_handlers={Exception: respond},
        middleware=[letting_extensions_in],
        tags=["activitywatch"],
    )
