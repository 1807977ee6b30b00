"""Leases as they come in, and what is remembered while their store is away."""

from uuid import UUID

import pytest

from chassis.errors import Invalid
from protos.realtime.v1.realtime_pb2 import Lease as LeaseMessage
from services.realtime.domain.presence import Presence, parse_lease
from services.realtime.presence import LastKnown

ACME, EVIL = UUID(int=1), UUID(int=2)
ANA, BEN = UUID(int=0xA), UUID(int=0xB)


def message(**changes: str) -> LeaseMessage:
    fields = {"org_id": str(ACME), "user_id": str(ANA), "connection_id": "g1:7", "state": "away"}
    return LeaseMessage(**{**fields, **changes})


def online(user_id: UUID = ANA, since_us: int = 5) -> Presence:
    return Presence(user_id, "online", 1, since_us)


def test_a_lease_is_parsed() -> None:
    lease = parse_lease("leases[0]", message())
    assert lease == (ACME, ANA, "g1:7", "away")


def test_the_state_of_a_closed_connection_does_not_matter() -> None:
    assert parse_lease("closed[0]", message(state=""), is_closed=True).state == "offline"


def test_every_wrong_field_of_a_lease_is_named() -> None:
    wrong = message(org_id="1", user_id="*", connection_id="a b", state="offline")
    with pytest.raises(Invalid) as refused:
        parse_lease("leases[3]", wrong)
    assert [violation.field for violation in refused.value.violations] == [
        "leases[3].org_id",
        "leases[3].user_id",
        "leases[3].connection_id",
        "leases[3].state",
    ]


@pytest.mark.parametrize("connection_id", ["", "x" * 65, "a\n", "é"])
def test_connection_ids_are_short_and_plain(connection_id: str) -> None:
    with pytest.raises(Invalid):
        parse_lease("leases[0]", message(connection_id=connection_id))


def test_what_was_known_last_is_kept_by_organization() -> None:
    known = LastKnown()
    known.replace(ACME, [online(BEN), online(ANA)])
    assert [one.user_id for one in known.people(ACME, None)] == [ANA, BEN]
    assert known.people(ACME, BEN) == [online(BEN)]
    assert known.people(EVIL, None) == []


def test_changes_update_it_unless_they_are_older() -> None:
    known = LastKnown()
    known.update(ACME, online(since_us=5))
    known.update(ACME, Presence(ANA, "offline", 0, 4))
    assert known.people(ACME, None) == [online(since_us=5)]
    known.update(ACME, Presence(ANA, "offline", 0, 6))
    assert known.people(ACME, None) == []


def test_the_organizations_asked_about_longest_ago_are_forgotten_first() -> None:
    known = LastKnown(most_people=3)
    known.replace(ACME, [online(ANA), online(BEN)])
    known.replace(EVIL, [online(ANA), online(BEN)])
    assert known.people(ACME, None) == []
    assert len(known.people(EVIL, None)) == 2
    # Its count did not drift: there is room for one more.
    known.update(UUID(int=3), online(ANA))
    assert len(known.people(EVIL, None)) == 2
    assert len(known.people(UUID(int=3), None)) == 1
