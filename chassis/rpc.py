"""gRPC servers and calls. The only mapper between errors and gRPC status.

Every call has a deadline; a server refuses one with no time left, and passes on a little less
than it got, so that the callee can still say what timed out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.clock import Clock
from chassis.errors import KINDS, AppError, Unavailable, Violation
from chassis.identity import InternalVerifier, set_principal
from chassis.log import get_logger
from chassis.settings import GrpcSettings
from protos.common.v1 import types_pb2

if TYPE_CHECKING:
    # Generic for type checkers only.
    Handler = grpc.RpcMethodHandler[Any, Any]

log = get_logger(__name__)
Reply = TypeVar("Reply")

ERROR_TRAILER: Final = "timeloom-error-bin"
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
# gRPC drops a call whose trailers pass 8 kB, so an error with hundreds of violations sends the first.
MAX_DETAIL_BYTES: Final = 4096
MAX_ERROR_CHARACTERS: Final = 500
DEFAULT_CALL_SECONDS: Final = 10.0
# What a server keeps of its caller's time, so that its answer still arrives. The share is there
# because gRPC sends a time that is up to 3 % longer when that saves header bytes.
HOP_MARGIN_SECONDS: Final = 0.05
HOP_MARGIN_SHARE: Final = 0.04
LEAST_USEFUL_SECONDS: Final = 0.02

STATUS_OF_KIND: Final = {
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "conflict": grpc.StatusCode.FAILED_PRECONDITION,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
}
_OPTIONS: Final = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
# Left alone gRPC waits up to two minutes before it tries to reach a service that came back.
_CHANNEL_OPTIONS: Final = [
    *_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
# Without the first two a server answers the keepalives above with GOAWAY too_many_pings.
_SERVER_OPTIONS: Final = [
    *_OPTIONS,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.so_reuseport", 0),
]
_deadline: ContextVar[float] = ContextVar("deadline")

Context = grpc.aio.ServicerContext[Any, Any]
Server = grpc.aio.Server
Behaviour = Callable[[Any, Context], Awaitable[Any]]


class Servicer(Protocol):
    """Registers one generated servicer on a server and names its service."""

    def __call__(self, server: grpc.aio.Server, /) -> str: ...


class _Guard(grpc.aio.ServerInterceptor):
    """Deadline, identity, span and error mapping around every unary method of ours."""

    def __init__(self, verifier: InternalVerifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        method = handler_call_details.method
        if known := self._wrapped.get(method):
            return known
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith("/timeloom."):
            return handler
        wrapped = grpc.unary_unary_rpc_method_handler(
            self._guard(method, cast("Behaviour", handler.unary_unary)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        self._wrapped[method] = wrapped
        return wrapped

    def _guard(self, method: str, behaviour: Behaviour) -> Behaviour:
        name = method.lstrip("/")

        async def guarded(request: Any, context: Context) -> Any:
            headers = dict(context.invocation_metadata() or ())
            parents = [str(headers.get("traceparent", ""))]
            try:
                with telemetry.span(name, SpanKind.SERVER, parents=parents):
                    self._enter(str(headers.get("authorization", "")), context)
                    return await behaviour(request, context)
            except AppError as error:
                await _abort(context, error)
            except TimeoutError:
                await _abort(context, Unavailable("The service ran out of time."))
            except Exception:
                log.exception("rpc.failed", method=name)
                await context.abort(grpc.StatusCode.INTERNAL, "internal")

        return guarded

    def _enter(self, token: str, context: Context) -> None:
        remaining = context.time_remaining()
        if remaining is not None:
            if remaining < LEAST_USEFUL_SECONDS:
                raise Unavailable("The call arrived with no time left.")
            margin = max(HOP_MARGIN_SECONDS, remaining * HOP_MARGIN_SHARE)
            _deadline.set(self._clock.monotonic() + remaining - margin)
        set_principal(self._verifier.verify(token.removeprefix("Bearer ")))


def pack_error(error: AppError) -> types_pb2.ErrorDetail:
    """An error as it crosses the wire; violations that don't fit are left out."""
    detail = types_pb2.ErrorDetail(
        kind=error.kind,
        message=str(error)[:MAX_ERROR_CHARACTERS],
        retry_after_seconds=error.retry_after_seconds,
    )
    for field, message in error.violations:
        detail.violations.append(types_pb2.Violation(field=field, message=message))
        if detail.ByteSize() > MAX_DETAIL_BYTES:
            detail.violations.pop()
            break
    return detail


def unpack_error(detail: types_pb2.ErrorDetail) -> AppError | None:
    """The error as it was raised; None when its kind is none of ours."""
    if kind := KINDS.get(detail.kind):
        return kind(
            detail.message,
            violations=[Violation(v.field, v.message) for v in detail.violations],
            retry_after_seconds=detail.retry_after_seconds,
        )
    return None


async def _abort(context: Context, error: AppError) -> None:
    await context.abort(
        STATUS_OF_KIND[error.kind],
        error.kind,
        trailing_metadata=((ERROR_TRAILER, pack_error(error).SerializeToString()),),
    )


class RpcServer:
    """One gRPC server with health and, when asked for, reflection."""

    def __init__(
        self,
        *,
        settings: GrpcSettings,
        verifier: InternalVerifier,
        clock: Clock,
        servicers: Sequence[Servicer],
        drain_seconds: float,
    ) -> None:
        self._settings = settings
        self._drain_seconds = drain_seconds
        # Where it listens once started; useful when the settings said 0.
        self.port = 0
        self._server = grpc.aio.server(
            interceptors=[_Guard(verifier, clock)], options=_SERVER_OPTIONS
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = [add(self._server) for add in servicers]
        if settings.grpc_reflection:
            reflection.enable_server_reflection(
                [*self._names, reflection.SERVICE_NAME, health.SERVICE_NAME], self._server
            )

    async def start(self) -> None:
        """Listens, then says so to health checks.

        Raises:
            RuntimeError: the port is taken.
        """
        credentials = _server_credentials(self._settings)
        listen = self._settings.grpc_listen
        if credentials:
            self.port = self._server.add_secure_port(listen, credentials)
        else:
            self.port = self._server.add_insecure_port(listen)
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Refuses new calls, lets the running ones end, then closes."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._drain_seconds / 2)


def _read(path: Any) -> bytes | None:
    return path.read_bytes() if path else None


def _server_credentials(settings: GrpcSettings) -> grpc.ServerCredentials | None:
    if not (settings.grpc_tls_cert_file and settings.grpc_tls_key_file):
        return None
    pair = (settings.grpc_tls_key_file.read_bytes(), settings.grpc_tls_cert_file.read_bytes())
    authority = _read(settings.grpc_tls_ca_file)
    return grpc.ssl_server_credentials(
        [pair], root_certificates=authority, require_client_auth=authority is not None
    )


@asynccontextmanager
async def channel(target: str, settings: GrpcSettings) -> AsyncIterator[grpc.aio.Channel]:
    """A channel that spreads calls over every address of `target` and reconnects by itself."""
    options = [*_CHANNEL_OPTIONS, ("grpc.service_config", _SERVICE_CONFIG)]
    if settings.grpc_tls_ca_file:
        credentials = grpc.ssl_channel_credentials(
            _read(settings.grpc_tls_ca_file),
            _read(settings.grpc_tls_key_file),
            _read(settings.grpc_tls_cert_file),
        )
        opened = grpc.aio.secure_channel(target, credentials, options=options)
    else:
        opened = grpc.aio.insecure_channel(target, options=options)
    try:
        yield opened
    finally:
        await opened.close(grace=2.0)


_SERVICE_CONFIG: Final = '{"loadBalancingConfig": [{"round_robin": {}}]}'


async def call(
    method: Callable[..., Awaitable[Reply]],
    request: Message,
    *,
    token: str,
    clock: Clock,
    seconds: float = DEFAULT_CALL_SECONDS,
    tries: int = 1,
) -> Reply:
    """One unary call with deadline, identity and trace; `tries` > 1 only for idempotent methods.

    Raises:
        AppError: as the service raised it; Unavailable when it could not be reached in time.
    """
    ends = min(clock.monotonic() + seconds, _deadline.get(float("inf")))
    wait = 0.05
    while True:
        left = ends - clock.monotonic()
        if left < LEAST_USEFUL_SECONDS:
            raise Unavailable("There was no time left to ask the service.")
        try:
            return await method(request, timeout=left, metadata=_metadata(token))
        except grpc.aio.AioRpcError as error:
            tries -= 1
            if error.code() is not grpc.StatusCode.UNAVAILABLE or tries < 1:
                raise _to_app_error(error) from error
        await asyncio.sleep(min(wait, max(ends - clock.monotonic(), 0)))
        wait *= 2


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    parent = telemetry.traceparent()
    if parent:
        return (("authorization", f"Bearer {token}"), ("traceparent", parent))
    return (("authorization", f"Bearer {token}"),)


def _to_app_error(error: grpc.aio.AioRpcError) -> Exception:
    trailers: Mapping[str, str | bytes] = dict(error.trailing_metadata() or ())
    packed = trailers.get(ERROR_TRAILER)
    if isinstance(packed, bytes):
        known = unpack_error(types_pb2.ErrorDetail.FromString(packed))
        if known is not None:
            return known
    if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return Unavailable("A service of the suite did not answer in time.")
    return error
