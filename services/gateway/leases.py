"""Tells realtime who is here: every connection in batches, joins and leaves within a moment."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from chassis.clock import Clock
from chassis.log import get_logger
from protos.realtime.v1.realtime_pb2 import Lease, RefreshLeasesRequest
from services.gateway.clients import GATEWAY, PresenceClient
from services.gateway.seat import Seat

log = get_logger(__name__)

# A third of the lease: two refreshes may be lost.
REFRESH_SECONDS: Final = 25.0
# Joins and leaves of this long travel together.
LOOK_SECONDS: Final = 0.25
# After a failure everybody is told again this soon.
RETRY_SECONDS: Final = 2.0
MAX_LEASES_A_CALL: Final = 5000
# Past it the oldest goodbyes are forgotten; their leases run out by themselves.
MAX_GOODBYES: Final = 20_000


class Leases:
    """The presence of this process's connections; `seats` gives all that are open now."""

    def __init__(
        self, *, presence: PresenceClient, seats: Callable[[], Sequence[Seat]], clock: Clock
    ) -> None:
        self._presence = presence
        self._seats = seats
        self._clock = clock
        self._changed: dict[str, Lease] = {}
        self._left: deque[Lease] = deque(maxlen=MAX_GOODBYES)

    def changed(self, seat: Seat) -> None:
        """A connection opened, or its state is another one."""
        self._changed[seat.connection_id] = lease_of(seat)

    def left(self, seat: Seat) -> None:
        """A connection closed."""
        self._changed.pop(seat.connection_id, None)
        self._left.append(lease_of(seat))

    async def run(self, stopping: asyncio.Event) -> None:
        """Refreshes until stopped and everybody's goodbye is said."""
        due = self._clock.monotonic() + REFRESH_SECONDS
        while not (stopping.is_set() and not self._left and not self._seats()):
            now = self._clock.monotonic()
            if now >= due or self._changed or self._left:
                is_whole = now >= due
                try:
                    await self.refresh(is_whole=is_whole)
                except Exception as error:  # noqa: BLE001  # presence must not end the process
                    log.warning("leases.not_refreshed", error=repr(error))
                    if stopping.is_set():
                        return
                    due = now + RETRY_SECONDS
                else:
                    due = now + REFRESH_SECONDS if is_whole else due
            await asyncio.sleep(LOOK_SECONDS)

    async def refresh(self, *, is_whole: bool) -> None:
        """Tells what changed, or everything there is.

        Raises:
            Exception: not all was heard; goodbyes are kept for the next time.
        """
        leases = list(self._changed.values())
        self._changed.clear()
        if is_whole:
            leases = [lease_of(seat) for seat in self._seats()]
        left = [self._left.popleft() for _ in range(len(self._left))]
        for start in range(0, max(len(leases), len(left)), MAX_LEASES_A_CALL):
            end = start + MAX_LEASES_A_CALL
            request = RefreshLeasesRequest(leases=leases[start:end], closed=left[start:end])
            try:
                await self._presence.refresh_leases(GATEWAY, request)
            except BaseException:
                self._left.extendleft(reversed(left[start:]))
                raise


def lease_of(seat: Seat) -> Lease:
    """A connection as realtime counts it."""
    return Lease(
        org_id=str(seat.principal.org_id),
        user_id=str(seat.user_id),
        connection_id=seat.connection_id,
        state=seat.state,
    )
