"""The public interface over HTTP, one module per noun, each with its HANDLERS.

A handler takes what it needs by name; app.py says what there is. `caller: Caller` authenticates
the request; a handler without it is public. Handlers raise the errors of chassis/errors.py and
leave status codes to problems.py.
"""

from typing import Final

from litestar.types import ControllerRouterHandler

from services.gateway.http import (
    accounts,
    activitywatch,
    activitywatch_access,
    activitywatch_transfer,
    events,
    export,
    health,
    landing,
    live,
    openapi,
    operations,
    presence,
    sessions,
    sign_in,
)

HANDLERS: Final[list[ControllerRouterHandler]] = [
    *landing.HANDLERS,
    *openapi.HANDLERS,
    *sign_in.HANDLERS,
    *accounts.HANDLERS,
    *export.HANDLERS,
    *events.HANDLERS,
    *sessions.HANDLERS,
    *operations.HANDLERS,
    *health.HANDLERS,
    *live.HANDLERS,
    *presence.HANDLERS,
    activitywatch_access.router([*activitywatch.HANDLERS, *activitywatch_transfer.HANDLERS]),
]
