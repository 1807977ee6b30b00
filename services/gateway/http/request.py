"""Requests whose `data` is decoded strictly: wrong types and unknown fields are refused."""

from typing import Any

from litestar import Request
from litestar.datastructures import State

from services.gateway.auth import Caller
from services.gateway.payloads.decode import decode


class StrictRequest(Request[Caller | None, Any, State]):
    """Litestar would convert leniently (`"1"` for 1); here JSON types must be right."""

    async def json(self) -> Any:
        """The body as the type that the handler declares for `data`."""
        field = self.route_handler.parsed_data_field
        return decode(await self.body(), field.annotation if field else Any)
