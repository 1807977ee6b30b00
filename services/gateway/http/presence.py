"""Who is here."""

from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from protos.realtime.v1.realtime_pb2 import ListPresenceRequest
from services.gateway.auth import Caller
from services.gateway.clients import PresenceClient
from services.gateway.payloads.times import instant

UserParameter = Annotated[
    UUID | None,
    QueryParameter(name="user_id", description="Only this person; everyone when absent"),
]


class PresenceItem(msgspec.Struct, frozen=True, kw_only=True):
    """One person over all their connections; `since` is when the state was last renewed or left."""

    user_id: str
    state: str
    connections: int
    since: str


class PresenceList(msgspec.Struct, frozen=True, kw_only=True):
    """Everyone with a live connection. `is_stale`: the answer may be old, its store is away."""

    items: list[PresenceItem]
    next_cursor: str | None
    is_stale: bool


@get("/v1/presence", tags=["live"])
async def list_presence(
    caller: NamedDependency[Caller],
    presence: NamedDependency[PresenceClient],
    user_id: UserParameter = None,
) -> PresenceList:
    """Says who is online, away or idle."""
    caller.principal.require_scope("read")
    request = ListPresenceRequest(user_id=str(user_id) if user_id else "")
    answer = await presence.list_presence(caller.principal, request)
    return PresenceList(
        items=[
            PresenceItem(
                user_id=one.user_id,
                state=one.state,
                connections=one.connections,
                since=instant(one.since_us),
            )
            for one in answer.presence
        ],
        next_cursor=None,
        is_stale=answer.is_stale,
    )


HANDLERS: Final[list[HTTPRouteHandler]] = [list_presence]
