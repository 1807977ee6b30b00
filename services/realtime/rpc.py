"""PresenceService and LiveService."""

import grpc.aio

from chassis.errors import Forbidden, Invalid
from chassis.identity import SERVICE_ROLE, Principal, current_principal
from chassis.rpc import Context
from protos.realtime.v1 import realtime_pb2 as pb
from protos.realtime.v1 import realtime_pb2_grpc as pb_grpc
from services.realtime.domain.channels import authorize, parse_channel
from services.realtime.domain.history import Position
from services.realtime.domain.presence import MAX_LEASES, parse_lease, parse_user
from services.realtime.history import MAX_MESSAGES, LiveHistory
from services.realtime.presence import PresenceKeeper


class PresenceServicer(pb_grpc.PresenceServiceServicer):
    """Who is here."""

    def __init__(self, keeper: PresenceKeeper, *, lease_seconds: float) -> None:
        self._keeper = keeper
        self._lease_seconds = lease_seconds

    async def RefreshLeases(
        self, request: pb.RefreshLeasesRequest, context: Context
    ) -> pb.RefreshLeasesResponse:
        """The only call that takes organizations from the request: a gateway holds many.

        Raises:
            Forbidden: the caller is no service.
            Invalid: a lease is malformed, or there are more than MAX_LEASES; nothing was taken in.
            Unavailable: the store of leases is away.
        """
        if current_principal().role != SERVICE_ROLE:
            raise Forbidden("Only the suite's own services hold leases.")
        for field, leases in (("leases", request.leases), ("closed", request.closed)):
            if len(leases) > MAX_LEASES:
                raise Invalid.field(field, f"must have at most {MAX_LEASES} entries")
        await self._keeper.refresh(
            [parse_lease(f"leases[{at}]", lease) for at, lease in enumerate(request.leases)],
            [
                parse_lease(f"closed[{at}]", lease, is_closed=True)
                for at, lease in enumerate(request.closed)
            ],
        )
        return pb.RefreshLeasesResponse(lease_seconds=self._lease_seconds)

    async def ListPresence(
        self, request: pb.ListPresenceRequest, context: Context
    ) -> pb.ListPresenceResponse:
        """Managers see everyone, others themselves.

        Raises:
            Forbidden: another person was asked about by someone below manager.
            Invalid: `user_id` is not a UUID.
        """
        principal = current_principal()
        asked = parse_user("user_id", request.user_id) if request.user_id else None
        if not _sees_everyone(principal):
            if asked not in {None, principal.user_id}:
                raise Forbidden("This needs the role manager or a higher one.")
            asked = principal.user_id
        roll = await self._keeper.roll(principal.org_id, asked)
        return pb.ListPresenceResponse(
            presence=[
                pb.Presence(
                    user_id=str(one.user_id),
                    state=one.state,
                    connections=one.connections,
                    since_us=one.since_us,
                )
                for one in roll.presence
            ],
            is_stale=roll.is_stale,
        )


class LiveServicer(pb_grpc.LiveServiceServicer):
    """What was said on a channel."""

    def __init__(self, history: LiveHistory) -> None:
        self._history = history

    async def GetHistory(
        self, request: pb.GetHistoryRequest, context: Context
    ) -> pb.GetHistoryResponse:
        """The organization is the caller's, so no request can name a channel of another one.

        Raises:
            Forbidden: the channel is not for the caller.
            Invalid: there is no such channel.
            Unavailable: the stream can't be read now.
        """
        principal = current_principal()
        channel = parse_channel(request.channel)
        authorize(principal, channel)
        since = None
        if request.since_epoch:
            since = Position(request.since_epoch, request.since_offset)
        limit = min(request.limit or MAX_MESSAGES, MAX_MESSAGES)
        page = await self._history.read(principal.org_id, channel, since, limit)
        return pb.GetHistoryResponse(
            is_recovered=page.is_recovered,
            epoch=page.position.epoch,
            offset=page.position.offset,
            messages=page.messages,
            has_more=page.has_more,
        )


def _sees_everyone(principal: Principal) -> bool:
    return principal.role == SERVICE_ROLE or principal.is_at_least("manager")


def add_presence(servicer: PresenceServicer, server: grpc.aio.Server) -> str:
    """Registers it and names the service."""
    pb_grpc.add_PresenceServiceServicer_to_server(servicer, server)
    return "timeloom.realtime.v1.PresenceService"


def add_live(servicer: LiveServicer, server: grpc.aio.Server) -> str:
    """Registers it and names the service."""
    pb_grpc.add_LiveServiceServicer_to_server(servicer, server)
    return "timeloom.realtime.v1.LiveService"
