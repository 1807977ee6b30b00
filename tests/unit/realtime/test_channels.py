"""Who may watch what."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Forbidden, Invalid
from chassis.identity import ROLES, SERVICE_ROLE, Principal
from services.realtime.domain.channels import (
    ALL_ORGS,
    CONTROL,
    JOBS,
    ORG,
    authorize,
    parse_channel,
    user_channel,
)

ANA, BEN = UUID(int=0xA), UUID(int=0xB)


def caller(role: str, user_id: UUID = ANA) -> Principal:
    return Principal(org_id=UUID(int=1), user_id=user_id, role=role)


def test_known_channels_are_parsed_to_what_they_are() -> None:
    assert parse_channel("org") == ORG
    assert parse_channel("jobs") == JOBS
    assert parse_channel("ctl") == CONTROL
    assert parse_channel(f"user.{ANA}") == user_channel(ANA)
    assert [channel.kind for channel in (ORG, JOBS, CONTROL, user_channel(ANA))] == [
        "org",
        "jobs",
        "ctl",
        "user",
    ]


@pytest.mark.parametrize(
    "text", ["", "me", "user.", "user.*", "user.>", "user", "org.>", "space.1", "ORG", "user.a.b"]
)
def test_anything_else_is_refused_and_the_field_is_named(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_channel(text)
    assert refused.value.violations[0].field == "channel"


@given(st.text() | st.uuids().map(lambda u: f"user.{{{u}}}") | st.just("user.urn:uuid:" + str(ANA)))
def test_whatever_is_parsed_is_one_safe_subject(text: str) -> None:
    try:
        name = parse_channel(text).name
    except Invalid:
        return
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert name in {"org", "jobs", "ctl"} or name == f"user.{UUID(name.removeprefix('user.'))}"


@pytest.mark.parametrize("role", ROLES)
def test_everyone_watches_their_own_channel_and_nobody_anothers(role: str) -> None:
    authorize(caller(role), user_channel(ANA))
    with pytest.raises(Forbidden):
        authorize(caller(role), user_channel(BEN))


@pytest.mark.parametrize("channel", [ORG, JOBS])
def test_the_organization_and_its_jobs_are_for_managers_and_up(channel: object) -> None:
    for role in ("manager", "admin", "owner"):
        authorize(caller(role), channel)  # type: ignore[arg-type]  # parametrize widens
    for role in ("member", "guest", "nonsense", ""):
        with pytest.raises(Forbidden):
            authorize(caller(role), channel)  # type: ignore[arg-type]  # parametrize widens


@pytest.mark.parametrize("role", [*ROLES, ""])
def test_no_person_reads_orders_to_gateways(role: str) -> None:
    with pytest.raises(Forbidden):
        authorize(caller(role), CONTROL)


def test_a_gateway_reads_every_channel_of_its_tokens_organization() -> None:
    refused = []
    for channel in (ORG, JOBS, CONTROL, user_channel(BEN)):
        try:
            authorize(caller(SERVICE_ROLE, UUID(int=0)), channel)
        except Forbidden:
            refused.append(channel)
    assert not refused


def test_a_call_without_a_person_owns_no_channel() -> None:
    with pytest.raises(Forbidden):
        authorize(caller("member", UUID(int=0)), user_channel(ANA))


def test_no_organization_is_spelled_like_all_of_them() -> None:
    with pytest.raises(ValueError, match="badly formed"):
        UUID(ALL_ORGS)
