"""Is it alive, is it ready, how is everything else: for orchestrators, people and Prometheus."""

from typing import Final

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import SkipValidation
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chassis.clock import Clock
from chassis.health import Probe, is_ready
from chassis.lifecycle import Lifecycle
from chassis.outbox import Outbox


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` or `degraded`, and each part with `ok` or what is wrong with it."""

    status: str
    parts: dict[str, str]


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """How long a trivial query took."""

    status: str
    seconds: float


@get("/livez", tags=["health"], sync_to_thread=False)
def livez() -> dict[str, str]:
    """Says that the process turns."""
    return {"status": "ok"}


@get("/readyz", tags=["health"])
async def readyz(lifecycle: NamedDependency[Lifecycle]) -> Response[Health]:
    """Says whether this process can serve: its own database and bus."""
    return _health(await lifecycle.probe.examine())


@get("/health", tags=["health"])
async def health(
    lifecycle: NamedDependency[Lifecycle], suite: NamedDependency[Probe]
) -> Response[Health]:
    """Says how the whole suite is; 503 when a part is down."""
    return _health({**await suite.examine(), **await lifecycle.probe.examine()})


@get("/dbcheck", tags=["health"])
async def dbcheck(
    outbox: NamedDependency[Outbox], clock: NamedDependency[SkipValidation[Clock]]
) -> Database:
    """Asks the accounts database."""
    started = clock.monotonic()
    await outbox.check()
    return Database(status="ok", seconds=round(clock.monotonic() - started, 6))


@get("/metrics", tags=["health"], sync_to_thread=False)
def metrics() -> Response[bytes]:
    """Metrics of this process in Prometheus' format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _health(parts: dict[str, str]) -> Response[Health]:
    ready = is_ready(parts)
    state = Health(status="ok" if ready else "degraded", parts=parts)
    return Response(state, status_code=200 if ready else 503)


HANDLERS: Final[list[HTTPRouteHandler]] = [livez, readyz, health, dbcheck, metrics]
