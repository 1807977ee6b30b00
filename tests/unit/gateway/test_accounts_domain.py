"""Zones, roles and the shapes of credentials, as values."""

from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Conflict, Forbidden, Invalid
from chassis.identity import ROLES
from services.gateway.accounts.opaque import INVITATION, REFRESH, new_key, new_token, read_token
from services.gateway.domain import (
    MAX_ZONE_PERIODS,
    Member,
    MemberChange,
    ZonePeriod,
    check_change,
    choose_zone,
    device_key,
    format_day_start,
    parse_day_start,
    parse_email,
    parse_key,
    rank,
    settled_zones,
)

NOW = 1_768_816_800_000_000
ZONES = ("Europe/Rome", "Asia/Tokyo", "America/New_York", "UTC")
ORG, ADA, BOB = UUID(int=1), UUID(int=2), UUID(int=3)


def member(role: str = "member", *, is_active: bool = True, expires_at_us: int = 0) -> Member:
    return Member(
        org_id=ORG,
        user_id=BOB,
        name="Bob",
        role=role,
        is_active=is_active,
        revision=1,
        zones=(),
        day_start_minutes=0,
        created_at_us=NOW,
        expires_at_us=expires_at_us,
    )


def test_the_first_zone_holds_for_all_time_before() -> None:
    assert settled_zones(()) == (ZonePeriod(0, "UTC"),)
    assert choose_zone((), "Europe/Rome", NOW) == (ZonePeriod(0, "Europe/Rome"),)


def test_a_later_zone_holds_from_now_on_and_the_same_zone_changes_nothing() -> None:
    home = choose_zone((), "Europe/Rome", NOW)
    assert choose_zone(home, "Europe/Rome", NOW + 5) == home
    away = choose_zone(home, "Asia/Tokyo", NOW + 5)
    assert away == (*home, ZonePeriod(NOW + 5, "Asia/Tokyo"))


@given(st.lists(st.tuples(st.sampled_from(ZONES), st.integers(-1000, 1000)), max_size=30))
def test_zone_history_is_always_in_order_and_never_repeats_itself(
    choices: list[tuple[str, int]],
) -> None:
    zones: tuple[ZonePeriod, ...] = ()
    for name, jump in choices:
        zones = choose_zone(zones, name, NOW + jump)
        assert zones[-1].time_zone == name
    assert all(a.from_us < b.from_us and a.time_zone != b.time_zone for a, b in pairwise(zones))
    assert not zones or zones[0].from_us == 0


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "europe/rome", "EST5"])
def test_unknown_zones_are_refused(name: str) -> None:
    with pytest.raises(Invalid):
        choose_zone((), name, NOW)


def test_zone_history_has_an_end() -> None:
    zones: tuple[ZonePeriod, ...] = ()
    for number in range(MAX_ZONE_PERIODS):
        zones = choose_zone(zones, ZONES[number % 2], NOW + number)
    with pytest.raises(Conflict):
        choose_zone(zones, "UTC", NOW + 10_000)


@given(st.integers(0, 1439))
def test_a_day_start_survives_being_written(minutes: int) -> None:
    assert parse_day_start(format_day_start(minutes)) == minutes


@pytest.mark.parametrize("text", ["", "4:00", "24:00", "04:60", "04:00:00", " 04:00", "０４:００"])
def test_other_times_of_day_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_day_start(text)


def test_addresses_are_checked_and_keep_their_letters() -> None:
    assert parse_email("Ada.L@Example.COM") == "Ada.L@example.com"
    assert parse_email("ada@timeloom.local") == "ada@timeloom.local"
    for text in ("ada", "ada@", "@example.com", "a b@example.com", "ada@exa mple.com", ""):
        with pytest.raises(Invalid):
            parse_email(text)


@given(
    st.sampled_from(ROLES),
    st.sampled_from(ROLES),
    st.sampled_from([None, *ROLES]),
    st.sampled_from([None, True, False]),
    st.integers(0, 2),
)
def test_nobody_reaches_above_their_role_and_an_owner_remains(
    actor: str, target: str, role: str | None, is_active: bool | None, other_owners: int
) -> None:
    change = MemberChange(role=role, is_active=is_active)
    try:
        check_change(
            actor_id=ADA,
            actor_role=actor,
            target=member(target),
            change=change,
            other_owners=other_owners,
        )
    except Forbidden:
        assert rank(target) > rank(actor) or (role is not None and rank(role) > rank(actor))
    except Conflict:
        assert role == "guest" or (target == "owner" and other_owners == 0)
    else:
        assert rank(target) <= rank(actor)
        assert role is None or rank(role) <= rank(actor)
        lost = target == "owner" and (is_active is False or role not in {None, "owner"})
        assert not lost or other_owners > 0


def test_nobody_changes_themselves() -> None:
    for change in (MemberChange(role="owner"), MemberChange(is_active=True), MemberChange()):
        with pytest.raises(Forbidden):
            check_change(
                actor_id=BOB,
                actor_role="owner",
                target=member("admin"),
                change=change,
                other_owners=5,
            )


@pytest.mark.parametrize("is_uuid", [True, False])
def test_a_new_key_is_found_by_its_prefix_and_proven_by_its_hash(is_uuid: bool) -> None:
    text, parsed = new_key(is_uuid=is_uuid)
    other, other_parsed = new_key(is_uuid=is_uuid)
    assert parse_key(text) == parsed
    assert text != other
    assert parsed.secret_hash != other_parsed.secret_hash
    assert parsed.prefix in text
    assert parsed.prefix != text


@given(st.text())
def test_no_text_breaks_the_reading_of_keys_and_tokens(text: str) -> None:
    parse_key(text)
    for kind in (REFRESH, INVITATION):
        assert read_token(kind, text) is None
        assert read_token(kind, f"{kind}_{text}") is None


def test_a_token_says_where_it_belongs_and_to_which_kind() -> None:
    text, digest = new_token(REFRESH, ORG, ADA)
    read = read_token(REFRESH, text)
    assert read is not None
    assert (read.org_id, read.id, read.hash) == (ORG, ADA, digest)
    assert read_token(INVITATION, text) is None
    assert read_token(REFRESH, text + "A") is None


def test_devices_of_different_people_differ_even_under_one_name() -> None:
    assert device_key(ADA, "laptop") == device_key(ADA, "laptop")
    assert device_key(ADA, "laptop") != device_key(BOB, "laptop")
