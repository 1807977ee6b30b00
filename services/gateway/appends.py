"""Appends that arrive side by side travel to ingest in one call, each under its own token.

A gRPC call costs several times what an event costs, so one call for many callers is what lets a
single-event post be cheap. A caller that comes alone is sent at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from chassis import telemetry
from chassis.clock import Clock
from chassis.errors import Unavailable
from chassis.identity import InternalSigner, Principal
from chassis.rpc import DEFAULT_CALL_SECONDS, call, unpack_error
from protos.ingest.v1 import ingest_pb2 as ingest

# While one call waits for its commit, the next fills and flies: ingest is never without work.
CALLS_AT_ONCE: Final = 2
# The contract's bound, and what keeps one call well below the message limit.
MAX_APPENDS: Final = 256
MAX_EVENTS: Final = 5_000
TRIES: Final = 3


AppendMany = Callable[..., Awaitable[ingest.AppendManyResponse]]


class _Waiting(NamedTuple):
    append: ingest.TokenAppend
    events: int
    response: asyncio.Future[ingest.AppendEventsResponse]


class Appends:
    """The way of every append to ingest. `own` is who the gateway is when it calls for several."""

    def __init__(
        self, *, append_many: AppendMany, own: Principal, signer: InternalSigner, clock: Clock
    ) -> None:
        self._append_many = append_many
        self._own = own
        self._signer = signer
        self._clock = clock
        # Bounded by the requests that the server lets run at once.
        self._queue: deque[_Waiting] = deque()
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE)

    async def append(
        self, by: Principal, request: ingest.AppendEventsRequest
    ) -> ingest.AppendEventsResponse:
        """Durable when it returns; repeating it changes nothing.

        Raises:
            AppError: as ingest raised it for this append; Unavailable when it did not answer.
        """
        append = ingest.TokenAppend(
            token=self._signer.token_for(by),
            traceparent=telemetry.traceparent(),
            request=request,
        )
        response: asyncio.Future[ingest.AppendEventsResponse] = (
            asyncio.get_running_loop().create_future()
        )
        self._queue.append(_Waiting(append, len(request.events.start_us), response))
        async with self._turns:
            # Whoever gets a turn takes along those that wait; often somebody took this one.
            if not response.done() and self._queue:
                await self._send(self._next_group())
        return await response

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        events = 0
        while self._queue and len(group) < MAX_APPENDS:
            events += self._queue[0].events
            if group and events > MAX_EVENTS:
                break
            group.append(self._queue.popleft())
        return group

    async def _send(self, group: list[_Waiting]) -> None:
        """One call; every member of the group has its answer or its error when it returns."""
        request = ingest.AppendManyRequest(appends=[waiting.append for waiting in group])
        try:
            reply: ingest.AppendManyResponse = await call(
                self._append_many,
                request,
                token=self._signer.token_for(self._own),
                clock=self._clock,
                seconds=DEFAULT_CALL_SECONDS,
                tries=TRIES,
            )
            for waiting, outcome in zip(group, reply.outcomes, strict=True):
                _settle(waiting, outcome)
        except Exception as error:  # noqa: BLE001  # the callers get it, each in their own task
            for waiting in group:
                _fail(waiting, error)
        finally:
            # Only when the caller who led was cut off in the middle.
            for waiting in group:
                _fail(waiting, Unavailable("The call to ingest was cut off."))


def _settle(waiting: _Waiting, outcome: ingest.AppendOutcome) -> None:
    if outcome.HasField("error"):
        known = unpack_error(outcome.error)
        _fail(waiting, known or RuntimeError(f"ingest failed: {outcome.error.kind}"))
    elif not waiting.response.done():
        waiting.response.set_result(outcome.response)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.response.done():
        waiting.response.set_exception(error)
        # A caller that went away never asks; that is no news.
        waiting.response.exception()
