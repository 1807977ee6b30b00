"""When devices and API keys were last seen: gathered here, written once in a while.

What is waiting is bounded by one entry per key and device, and lost only with the process: it
says when something was last seen, nothing more. A device that is new is written at once, so that
every event that was acknowledged has a device with a name.
"""

import asyncio
import contextlib
from collections import OrderedDict
from typing import Final, NamedTuple
from uuid import UUID

from chassis.clock import Clock
from chassis.identity import Principal
from chassis.log import get_logger
from chassis.postgres import Pool, constraints, transaction
from chassis.retry import TRANSIENT
from services.gateway.domain import Device, device_key
from services.gateway.store import credentials, devices
from services.gateway.tokens import BadCredential

log = get_logger(__name__)

REMEMBERED: Final = 20_000
# A list of devices is precise to this; writing more often would cost more than it tells.
TOUCH_SECONDS: Final = 60.0
FLUSH_SECONDS: Final = 5.0


class _Seen(NamedTuple):
    device_id: UUID
    noted_at: float


class Usage:
    """Notes uses; `run` writes them."""

    def __init__(self, *, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._seen: OrderedDict[tuple[UUID, UUID, str], _Seen] = OrderedDict()
        self._devices: dict[tuple[UUID, UUID], int] = {}
        self._keys: dict[tuple[UUID, UUID], int] = {}

    async def device(
        self, by: Principal, client_id: str, *, name: str = "", kind: str = ""
    ) -> UUID:
        """The key of the device that an agent of `by` calls `client_id` (1 to 100 characters).

        `name` and `kind` are kept when the device is new or had none.

        Raises:
            BadCredential: the person was erased a moment ago.
            Unavailable: the device is new here and the database did not answer.
        """
        place = (by.org_id, by.user_id, client_id)
        seen = self._seen.get(place)
        now = self._clock.monotonic()
        if seen is None:
            now_us = self._clock.now_us()
            device = Device(
                device_id=device_key(by.user_id, client_id),
                user_id=by.user_id,
                client_id=client_id,
                name=name,
                kind=kind,
                first_seen_us=now_us,
                last_seen_us=now_us,
            )
            await self._keep(by.org_id, device)
            self._note(place, _Seen(device.device_id, now))
            return device.device_id
        if now - seen.noted_at > TOUCH_SECONDS:
            self._devices[by.org_id, seen.device_id] = self._clock.now_us()
            self._note(place, _Seen(seen.device_id, now))
        return seen.device_id

    async def _keep(self, org_id: UUID, device: Device) -> None:
        with constraints({"devices_member": BadCredential()}):
            async with transaction(self._pool) as conn:
                await devices.keep(conn, org_id, device)

    def key_used(self, org_id: UUID, key_id: UUID) -> None:
        """Notes a use of an API key."""
        self._keys[org_id, key_id] = self._clock.now_us()

    def _note(self, place: tuple[UUID, UUID, str], seen: _Seen) -> None:
        self._seen[place] = seen
        self._seen.move_to_end(place)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    async def run(self, stopping: asyncio.Event) -> None:
        """Writes what was noted every few seconds, and once more at the end."""
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await stopping.wait()
            try:
                await self.flush()
            except TRANSIENT as error:
                log.warning("usage.not_written", error=repr(error))

    async def flush(self) -> None:
        """Writes what was noted; what can't be written stays noted."""
        seen, used = self._devices, self._keys
        if not seen and not used:
            return
        self._devices, self._keys = {}, {}
        try:
            async with transaction(self._pool) as conn:
                if seen:
                    await devices.touch(conn, [(*place, at) for place, at in seen.items()])
                if used:
                    await credentials.touch_keys(conn, [(*place, at) for place, at in used.items()])
        except TRANSIENT:
            self._devices = {**seen, **self._devices}
            self._keys = {**used, **self._keys}
            raise
