"""One live connection of one person, WebSocket or event stream, as the hub sees it."""

from typing import Final
from uuid import UUID

from chassis.clock import MICROSECONDS
from chassis.identity import Principal
from services.gateway.auth import Caller
from services.gateway.channel import Listener
from services.gateway.mailbox import Mailbox, Outgoing
from services.gateway.payloads.live import EXPIRED, Error, encode

WARN_US: Final = 30 * MICROSECONDS
# For a refresh that is on its way.
GRACE_US: Final = 10 * MICROSECONDS
TOKEN_EXPIRING: Final = Outgoing(
    encode(Error("token_expiring", "The credential ends in 30 seconds or less: refresh it."))
)


class Seat:
    """Who sits here, their mailbox, and the channels they listen to, by wire name.

    `expires_at_us` is when the credential ends, 0 for never; `state` is the presence that the
    client claims.
    """

    __slots__ = (
        "connection_id",
        "expires_at_us",
        "is_warned",
        "listeners",
        "mailbox",
        "principal",
        "state",
    )

    def __init__(self, *, caller: Caller, mailbox: Mailbox, connection_id: str) -> None:
        self.principal: Principal = caller.principal
        self.expires_at_us = caller.expires_at_us
        self.mailbox = mailbox
        self.connection_id = connection_id
        self.listeners: dict[str, Listener] = {}
        self.state = "online"
        self.is_warned = False

    @property
    def user_id(self) -> UUID:
        return self.principal.user_id

    def renew(self, caller: Caller) -> None:
        """Goes on with another credential of the same person."""
        self.principal = caller.principal
        self.expires_at_us = caller.expires_at_us
        self.is_warned = False

    def watch_credential(self, now_us: int) -> None:
        """Warns before the credential ends, and closes when it was not renewed after it has."""
        left = self.expires_at_us - now_us
        if left < -GRACE_US:
            self.mailbox.dismiss(EXPIRED)
        elif left <= WARN_US and not self.is_warned:
            self.is_warned = True
            self.mailbox.offer(TOKEN_EXPIRING)
