"""Calls over a real in-process server: errors, deadlines and identity cross the wire."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from chassis import rpc, telemetry
from chassis.clock import SystemClock
from chassis.errors import (
    KINDS,
    AppError,
    Conflict,
    Exhausted,
    Forbidden,
    Invalid,
    Unavailable,
    Violation,
)
from chassis.identity import InternalSigner, InternalVerifier, Principal, current_principal
from chassis.ids import new_id
from chassis.rpc import RpcServer, call, channel
from chassis.settings import GrpcSettings
from protos.common.v1.types_pb2 import ErrorDetail, PageInfo, PageRequest
from tests.support.eventually import eventually

CLOCK = SystemClock()
KEY = Ed25519PrivateKey.generate()
SIGNER = InternalSigner(KEY, CLOCK)
ANNA = Principal(org_id=new_id(), user_id=new_id(), role="member", scopes=frozenset({"read"}))

Behaviour = Callable[[PageRequest, Any], Awaitable[PageInfo]]
Method = Callable[..., Awaitable[PageInfo]]


class Echo:
    """One service with one method, whose behaviour each test sets."""

    def __init__(self) -> None:
        self.calls = 0
        self.behaviour: Behaviour = self.answer

    async def answer(self, request: PageRequest, context: Any) -> PageInfo:
        return PageInfo(next_cursor=request.cursor)

    async def _counted(self, request: PageRequest, context: Any) -> PageInfo:
        self.calls += 1
        return await self.behaviour(request, context)

    def add(self, server: grpc.aio.Server) -> str:
        handler = grpc.unary_unary_rpc_method_handler(
            self._counted,
            request_deserializer=PageRequest.FromString,
            response_serializer=PageInfo.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler("timeloom.test.v1.Echo", {"Page": handler})
        server.add_generic_rpc_handlers((generic,))
        return "timeloom.test.v1.Echo"


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def server(echo: Echo) -> AsyncIterator[RpcServer]:
    started = RpcServer(
        settings=GrpcSettings(grpc_reflection=True),
        verifier=InternalVerifier(KEY.public_key(), CLOCK),
        clock=CLOCK,
        servicers=[echo.add],
        drain_seconds=4.0,
    )
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def opened(server: RpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with channel(f"127.0.0.1:{server.port}", GrpcSettings()) as connected:
        yield connected


@pytest.fixture
def method(opened: grpc.aio.Channel) -> Method:
    return method_of(opened)


def method_of(opened: grpc.aio.Channel) -> Method:
    return opened.unary_unary(
        "/timeloom.test.v1.Echo/Page",
        request_serializer=PageRequest.SerializeToString,
        response_deserializer=PageInfo.FromString,
    )


async def ask(method: Method, cursor: str = "x", **choices: Any) -> PageInfo:
    choices.setdefault("token", SIGNER.token_for(ANNA))
    return await call(method, PageRequest(cursor=cursor), clock=CLOCK, **choices)


def fails_with(error: Exception) -> Behaviour:
    async def behaviour(request: PageRequest, context: Any) -> PageInfo:
        raise error

    return behaviour


async def test_a_call_reaches_the_service_with_its_caller(echo: Echo, method: Method) -> None:
    callers = []

    async def who(request: PageRequest, context: Any) -> PageInfo:
        callers.append(current_principal())
        return PageInfo(next_cursor=request.cursor)

    echo.behaviour = who
    assert (await ask(method, "é/漢字")).next_cursor == "é/漢字"
    assert callers == [ANNA]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_error_arrives_as_it_was_raised(
    echo: Echo, method: Method, kind: str
) -> None:
    echo.behaviour = fails_with(KINDS[kind](f"Why – {kind} → ünïcode"))
    with pytest.raises(KINDS[kind], match=f"^Why – {kind} → ünïcode$"):
        await ask(method)


async def test_violations_and_the_time_to_come_back_arrive(echo: Echo, method: Method) -> None:
    violations = [Violation("events[3].start", "not ö"), Violation("zone", "unknown")]
    echo.behaviour = fails_with(Invalid("Two fields.", violations=violations))
    with pytest.raises(Invalid) as invalid:
        await ask(method)
    assert invalid.value.violations == tuple(violations)
    echo.behaviour = fails_with(Exhausted(retry_after_seconds=2.5))
    with pytest.raises(Exhausted) as exhausted:
        await ask(method)
    assert exhausted.value.retry_after_seconds == 2.5


async def test_an_error_with_thousands_of_violations_still_arrives(
    echo: Echo, method: Method
) -> None:
    violations = [Violation(f"events[{n}].start", "must be a number ≥ 0") for n in range(5000)]
    echo.behaviour = fails_with(Invalid("漢" * 20_000, violations=violations))
    with pytest.raises(Invalid) as raised:
        await ask(method)
    kept = raised.value.violations
    assert 20 < len(kept) < 5000
    assert kept == tuple(violations[: len(kept)])


@given(
    kind=st.sampled_from(sorted(KINDS)),
    message=st.text(min_size=1, max_size=2000),
    violations=st.lists(st.tuples(st.text(max_size=300), st.text(max_size=300)), max_size=40),
    seconds=st.floats(min_value=0, max_value=1e6),
)
def test_what_crosses_the_wire_fits_and_is_never_changed_only_shortened(
    kind: str, message: str, violations: list[tuple[str, str]], seconds: float
) -> None:
    error = KINDS[kind](
        message,
        violations=[Violation(*one) for one in violations],
        retry_after_seconds=seconds,
    )
    packed = rpc.pack_error(error)
    assert packed.ByteSize() <= rpc.MAX_DETAIL_BYTES
    unpacked = rpc.unpack_error(ErrorDetail.FromString(packed.SerializeToString()))
    assert type(unpacked) is KINDS[kind]
    assert message.startswith(str(unpacked))
    assert unpacked.violations == error.violations[: len(unpacked.violations)]
    assert unpacked.retry_after_seconds == seconds


def test_a_kind_that_only_a_newer_version_knows_is_none_of_ours() -> None:
    assert rpc.unpack_error(ErrorDetail(kind="sideways", message="?")) is None


async def test_a_bug_shows_as_internal_without_any_detail(echo: Echo, method: Method) -> None:
    echo.behaviour = fails_with(ZeroDivisionError("secret detail"))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(method)
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert raised.value.details() == "internal"
    assert "secret" not in str(raised.value)
    assert not isinstance(raised.value, AppError)


async def test_a_time_out_inside_the_service_is_unavailable(echo: Echo, method: Method) -> None:
    echo.behaviour = fails_with(TimeoutError())
    with pytest.raises(Unavailable, match="out of time"):
        await ask(method)


@pytest.mark.parametrize(
    "token",
    ["", "garbage", InternalSigner(Ed25519PrivateKey.generate(), CLOCK).token_for(ANNA)],
    ids=["missing", "garbage", "foreign"],
)
async def test_without_a_valid_token_nothing_is_done(
    echo: Echo, method: Method, token: str
) -> None:
    with pytest.raises(Forbidden):
        await ask(method, token=token)
    assert echo.calls == 0


async def test_a_call_without_metadata_is_forbidden(echo: Echo, method: Method) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await method(PageRequest(), timeout=5)
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert echo.calls == 0


async def test_one_caller_is_never_taken_for_another(echo: Echo, method: Method) -> None:
    ben = Principal(org_id=new_id(), user_id=new_id(), role="owner")
    together = asyncio.Barrier(2)

    async def whose(request: PageRequest, context: Any) -> PageInfo:
        await together.wait()
        return PageInfo(next_cursor=str(current_principal().user_id))

    echo.behaviour = whose
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(method))
        second = group.create_task(ask(method, token=SIGNER.token_for(ben)))
    assert first.result().next_cursor == str(ANNA.user_id)
    assert second.result().next_cursor == str(ben.user_id)


async def test_a_service_keeps_enough_of_its_callers_time_to_say_what_timed_out(
    echo: Echo, method: Method
) -> None:
    async def waits_for_another(request: PageRequest, context: Any) -> PageInfo:
        match request.cursor:
            case "ask the silent one":
                try:
                    return await ask(method, "be silent", seconds=60.0)
                except Unavailable:
                    raise Conflict("The silent one did not answer.") from None
            case "be silent":
                await asyncio.Event().wait()
        return PageInfo()

    echo.behaviour = waits_for_another
    # gRPC repeats a time that it sent before when the new one is up to 3 % shorter.
    await ask(method, "answer", seconds=2.57)
    with pytest.raises(Conflict, match="silent one"):
        await ask(method, "ask the silent one", seconds=2.5)


async def test_a_service_without_time_left_does_not_ask_another(echo: Echo, method: Method) -> None:
    async def late(request: PageRequest, context: Any) -> PageInfo:
        if request.cursor == "second":
            return PageInfo(next_cursor="reached")
        return await ask(method, "second", seconds=60.0)

    echo.behaviour = late
    with pytest.raises(Unavailable, match="no time left"):
        await ask(method, "first", seconds=rpc.HOP_MARGIN_SECONDS + 0.01)
    assert echo.calls <= 1


async def test_a_call_without_useful_time_is_not_even_made(echo: Echo, method: Method) -> None:
    with pytest.raises(Unavailable, match="no time left"):
        await ask(method, seconds=rpc.LEAST_USEFUL_SECONDS / 2)
    assert echo.calls == 0


async def test_a_slow_answer_ends_at_the_callers_deadline_and_stops_the_work(
    echo: Echo, method: Method
) -> None:
    stopped = asyncio.Event()

    async def slow(request: PageRequest, context: Any) -> PageInfo:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return PageInfo()

    echo.behaviour = slow
    with pytest.raises(Unavailable, match="in time"):
        await ask(method, seconds=0.2)
    await eventually(stopped.is_set)


async def test_a_service_that_is_away_is_unavailable(server: RpcServer) -> None:
    await server.stop()
    async with channel(f"127.0.0.1:{server.port}", GrpcSettings()) as opened:
        with pytest.raises(Unavailable, match="did not answer"):
            await ask(method_of(opened), seconds=2.0)


async def test_only_unavailable_is_tried_again_and_only_when_asked_to(
    echo: Echo, method: Method
) -> None:
    async def comes_back(request: PageRequest, context: Any) -> PageInfo:
        if echo.calls < 3:
            raise Unavailable
        return PageInfo(next_cursor="back")

    echo.behaviour = comes_back
    with pytest.raises(Unavailable):
        await ask(method)
    assert echo.calls == 1
    assert (await ask(method, tries=3)).next_cursor == "back"
    echo.calls = 0
    echo.behaviour = fails_with(Forbidden())
    with pytest.raises(Forbidden):
        await ask(method, tries=3)
    assert echo.calls == 1


async def test_the_trace_goes_with_the_call(echo: Echo, method: Method) -> None:
    seen = []

    async def traced(request: PageRequest, context: Any) -> PageInfo:
        seen.append(telemetry.trace_id())
        return PageInfo()

    echo.behaviour = traced
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with telemetry.span("job run", parents=[parent]):
        await ask(method)
    assert seen == ["0af7651916cd43dd8448eb211c80319c"]


async def test_health_needs_no_token_and_names_the_service(opened: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(opened)
    for name in ("", "timeloom.test.v1.Echo"):
        reply = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services_when_asked_for(opened: grpc.aio.Channel) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(opened)  # type: ignore[arg-type]  # typed for sync
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stream = stub.ServerReflectionInfo(iter([request]), timeout=5)
    reply = await stream.read()
    names = {service.name for service in reply.list_services_response.service}
    assert {"timeloom.test.v1.Echo", "grpc.health.v1.Health"} <= names


async def test_stopping_lets_a_running_call_end(echo: Echo, server: RpcServer) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def held(request: PageRequest, context: Any) -> PageInfo:
        begun.set()
        await release.wait()
        return PageInfo(next_cursor="ended well")

    echo.behaviour = held
    async with (
        channel(f"127.0.0.1:{server.port}", GrpcSettings()) as opened,
        asyncio.TaskGroup() as group,
    ):
        answer = group.create_task(ask(method_of(opened)))
        await begun.wait()
        stopping = group.create_task(server.stop())
        release.set()
        assert (await answer).next_cursor == "ended well"
        await stopping


async def test_a_port_that_is_taken_is_an_error(server: RpcServer, echo: Echo) -> None:
    second = RpcServer(
        settings=GrpcSettings(grpc_listen=f"127.0.0.1:{server.port}"),
        verifier=InternalVerifier(KEY.public_key(), CLOCK),
        clock=CLOCK,
        servicers=[Echo().add],
        drain_seconds=1.0,
    )
    with pytest.raises(RuntimeError):
        await second.start()
