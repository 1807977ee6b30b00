"""Appends of many callers in one call: each under its own token, with its own answer."""

from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis.clock import ManualClock
from chassis.errors import Forbidden, Invalid
from chassis.identity import SERVICE_ROLE, InternalSigner, Principal
from protos.ingest.v1 import ingest_pb2 as pb
from tests.integration.ingest.conftest import (
    ACME,
    ANA,
    BEN,
    KEY,
    LAPTOP,
    PHONE,
    RIVAL,
    SOURCE,
    Agent,
    Replica,
    columns,
    event,
)

GATEWAY = Principal(org_id=UUID(int=0), user_id=UUID(int=0), role=SERVICE_ROLE)
WRITER = frozenset({"events:write"})


def person(user: UUID, org: UUID = ACME, scopes: frozenset[str] = WRITER) -> Principal:
    return Principal(org_id=org, user_id=user, role="member", scopes=scopes)


@pytest.fixture
def gateway(replica: Replica) -> Agent:
    return Agent(replica.servicer, GATEWAY)


@pytest.fixture
def signer(clock: ManualClock) -> InternalSigner:
    return InternalSigner(KEY, clock)


def append(token: str, *events, source: str = SOURCE, device: UUID = LAPTOP) -> pb.TokenAppend:
    request = pb.AppendEventsRequest(device_id=str(device), source=source, events=columns(*events))
    return pb.TokenAppend(token=token, request=request)


async def outcomes(gateway: Agent, *appends: pb.TokenAppend) -> list[tuple[object, ...]]:
    """Accepted and duplicates, or the kind of the error and the fields it names."""
    reply = await gateway.call("AppendMany", pb.AppendManyRequest(appends=appends))
    return [
        (one.error.kind, [violation.field for violation in one.error.violations])
        if one.HasField("error")
        else (one.response.accepted, one.response.duplicates)
        for one in reply.outcomes
    ]


async def test_each_append_acts_for_the_caller_of_its_own_token(
    gateway: Agent, signer: InternalSigner, replica: Replica
):
    people = [(ANA, ACME, LAPTOP), (BEN, ACME, PHONE), (ANA, RIVAL, LAPTOP)]
    appends = [
        append(signer.token_for(person(user, org)), event(0), event(5), device=device)
        for user, org, device in people
    ]
    assert await outcomes(gateway, *appends) == [(2, 0)] * 3
    for user, org, device in people:
        found = await replica.agent(user, org).events()
        assert [one.device_id for one in found] == [str(device)] * 2
    # One transaction, so one message for each organization and partition.
    assert len(await replica.announced()) == 3
    assert await outcomes(gateway, *appends) == [(0, 2)] * 3


async def test_one_bad_append_costs_the_others_nothing(gateway: Agent, signer: InternalSigner):
    ana, forger = (
        signer.token_for(person(ANA)),
        InternalSigner(Ed25519PrivateKey.generate(), ManualClock()),
    )
    found = await outcomes(
        gateway,
        append(ana, event(0)),
        append(forger.token_for(person(BEN)), event(0)),
        append("nonsense", event(0)),
        append(signer.token_for(person(BEN, scopes=frozenset({"read"}))), event(0)),
        append(signer.token_for(GATEWAY), event(0)),
        append(ana, event(0), source=""),
        append(ana, event(0)),
        append(ana, {**event(0), "flags": 3}),
    )
    assert found == [
        (1, 0),
        ("forbidden", []),
        ("forbidden", []),
        ("forbidden", []),
        ("forbidden", []),
        ("invalid", ["source"]),
        (0, 1),
        (0, 0),
    ]


async def test_only_a_service_may_append_for_others(replica: Replica, signer: InternalSigner):
    token = signer.token_for(person(ANA))
    for agent in (replica.agent(), Agent(replica.servicer, person(ANA))):
        with pytest.raises(Forbidden):
            await outcomes(agent, append(token, event(0)))
    assert await replica.agent().count() == 0


async def test_a_call_has_at_most_256_appends(gateway: Agent, signer: InternalSigner):
    token = signer.token_for(person(ANA))
    with pytest.raises(Invalid, match="appends"):
        await outcomes(gateway, *[append(token, event(0))] * 257)
