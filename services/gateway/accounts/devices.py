"""The devices of a person, and what their agents call them."""

from collections import OrderedDict
from collections.abc import Collection
from typing import Final
from uuid import UUID

from chassis.postgres import Pool, connection
from services.gateway.auth import Caller
from services.gateway.domain import Device
from services.gateway.store import devices

REMEMBERED: Final = 20_000


class Devices:
    """Reads devices. A device's name for itself never changes, so it is remembered."""

    def __init__(self, *, pool: Pool) -> None:
        self._pool = pool
        self._names: OrderedDict[tuple[UUID, str], str] = OrderedDict()

    async def list_devices(
        self, caller: Caller, *, user_id: UUID | None, after: UUID, limit: int
    ) -> list[Device]:
        """Devices by key: the caller's, or for managers those of `user_id`.

        Raises:
            Forbidden: somebody else's, below manager.
        """
        by = caller.principal
        by.require_scope("read")
        if user_id not in {None, by.user_id}:
            by.require_role("manager")
        async with connection(self._pool) as conn:
            return await devices.list_devices(
                conn, by.org_id, user_id or by.user_id, after=after, limit=limit
            )

    async def client_ids(self, org_id: UUID, keys: Collection[str]) -> dict[str, str]:
        """What agents call the devices with these keys (UUID text); unknown keys stay as they are."""
        unknown = [key for key in set(keys) if (org_id, key) not in self._names]
        if unknown:
            async with connection(self._pool) as conn:
                found = await devices.client_ids(conn, org_id, [UUID(key) for key in unknown])
            for device_id, client_id in found.items():
                self._names[org_id, str(device_id)] = client_id
        named = {key: self._names.get((org_id, key), key) for key in keys}
        while len(self._names) > REMEMBERED:
            self._names.popitem(last=False)
        return named
