"""What the suite tells every gateway about one organization: who must go, who changed role."""

from collections.abc import Callable, Iterable
from uuid import UUID

import msgspec

from chassis.log import get_logger
from services.gateway.feed import Arrival
from services.gateway.payloads.live import REVOKED, Position
from services.gateway.seat import Seat

log = get_logger(__name__)


class Disconnect(msgspec.Struct, frozen=True):
    """Whose connections end: without a credential all of the person's, without a person all."""

    user_id: UUID | None = None
    credential_id: str | None = None
    reason: str = ""


class MemberChanged(msgspec.Struct, frozen=True):
    """The role somebody has now."""

    user_id: UUID
    role: str


class Control:
    """Applies control messages of one organization to its seats.

    `seats_of` gives the seats of a person, or everybody's for None; `recheck` ends the
    subscriptions that a seat's new role does not allow.
    """

    def __init__(
        self,
        *,
        seats_of: Callable[[UUID | None], Iterable[Seat]],
        recheck: Callable[[Seat], None],
    ) -> None:
        self._seats_of = seats_of
        self._recheck = recheck

    def pass_on(self, _position: Position, arrival: Arrival) -> None:
        """One control message; what a newer suite may say beyond these is not for us."""
        match arrival.event:
            case "disconnect":
                self._disconnect(msgspec.json.decode(arrival.data_json, type=Disconnect))
            case "member.changed":
                self._change_role(msgspec.json.decode(arrival.data_json, type=MemberChanged))

    def _disconnect(self, order: Disconnect) -> None:
        for seat in self._seats_of(order.user_id):
            if order.credential_id in {None, seat.principal.credential_id}:
                log.info("live.disconnected", user_id=str(seat.user_id), reason=order.reason)
                seat.mailbox.dismiss(REVOKED)

    def _change_role(self, change: MemberChanged) -> None:
        for seat in self._seats_of(change.user_id):
            if seat.principal.role != change.role:
                seat.principal = msgspec.structs.replace(seat.principal, role=change.role)
                self._recheck(seat)
