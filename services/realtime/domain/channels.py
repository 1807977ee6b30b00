"""Channels below an organization: what there is to watch, and who may."""

from typing import Final
from uuid import UUID

import msgspec

from chassis.errors import Forbidden, Invalid
from chassis.identity import SERVICE_ROLE, Principal

_USER: Final = "user."
# Stands for every organization in subjects; no UUID is spelled like it.
ALL_ORGS: Final = "all"


class Channel(msgspec.Struct, frozen=True):
    """A channel; its `name` is safe inside a subject. `user_id` is set for a person's own one."""

    name: str
    user_id: UUID | None = None

    @property
    def kind(self) -> str:
        """user, org, jobs or ctl."""
        return self.name.partition(".")[0]


ORG: Final = Channel("org")
JOBS: Final = Channel("jobs")
# Orders to gateways; no client ever sees it.
CONTROL: Final = Channel("ctl")
_FIXED: Final = {channel.name: channel for channel in (ORG, JOBS, CONTROL)}


def user_channel(user_id: UUID) -> Channel:
    """The channel of one person."""
    return Channel(f"{_USER}{user_id}", user_id)


def parse_channel(text: str) -> Channel:
    """The channel that a caller names.

    Raises:
        Invalid: there is no such kind of channel, or its id is not a UUID.
    """
    if text in _FIXED:
        return _FIXED[text]
    if text.startswith(_USER):
        try:
            return user_channel(UUID(text.removeprefix(_USER)))
        except ValueError:
            pass
    raise Invalid.field("channel", "must be org, jobs or user.<id>")


def authorize(principal: Principal, channel: Channel) -> None:
    """A person watches their own channel, managers also `org` and `jobs`, gateways every one.

    Raises:
        Forbidden: the caller may not watch it.
    """
    if principal.role == SERVICE_ROLE:
        return
    if channel in {ORG, JOBS}:
        principal.require_role("manager")
    elif channel.user_id is None or channel.user_id != principal.user_id:
        raise Forbidden("This channel is not yours.")
