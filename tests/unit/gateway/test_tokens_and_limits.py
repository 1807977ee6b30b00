"""Tokens live as long as they say; buckets refill; pages and instants are read strictly."""

from contextlib import suppress
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import ManualClock
from chassis.errors import Forbidden, Invalid
from chassis.identity import InternalSigner, InternalVerifier, Principal
from services.gateway.auth import credential_in
from services.gateway.idempotency import Kept, Seal
from services.gateway.payloads.pages import (
    FIRST_ID,
    coerced,
    decode_cursor,
    encode_cursor,
    page_by_id,
)
from services.gateway.payloads.times import (
    instant,
    parse_date,
    parse_instant,
    parse_range,
    seconds,
)
from services.gateway.rate_limit import REMEMBERED, Buckets
from services.gateway.tokens import ACCESS_AUDIENCE, TICKET_AUDIENCE, BadCredential, TokenMint

KEY = Ed25519PrivateKey.generate()
ORG, ADA, FAMILY = UUID(int=1), UUID(int=2), UUID(int=3)


def mint(clock: ManualClock, audience: str = ACCESS_AUDIENCE) -> TokenMint:
    return TokenMint(key=KEY, clock=clock, audience=audience, seconds=900)


def test_a_token_stands_for_its_subject_until_it_expires() -> None:
    clock = ManualClock()
    token = mint(clock).make(org_id=ORG, user_id=ADA, credential_id=FAMILY)
    clock.advance(899)
    subject = mint(clock).read(token)
    assert (subject.org_id, subject.user_id, subject.credential_id) == (ORG, ADA, FAMILY)
    clock.advance(1)
    with pytest.raises(BadCredential):
        mint(clock).read(token)


def test_tokens_of_one_audience_pass_nowhere_else() -> None:
    clock = ManualClock()
    access = mint(clock).make(org_id=ORG, user_id=ADA, credential_id=FAMILY)
    ticket = mint(clock, TICKET_AUDIENCE).make(org_id=ORG, user_id=ADA, credential_id=FAMILY)
    principal = Principal(org_id=ORG, user_id=ADA, role="owner")
    internal = InternalSigner(KEY, clock).token_for(principal)
    for token in (ticket, internal):
        with pytest.raises(BadCredential):
            mint(clock).read(token)
    with pytest.raises(Forbidden):
        InternalVerifier(KEY.public_key(), clock).verify(access)


@pytest.mark.parametrize(
    "claims",
    [{"org": 1}, {"sub": "x"}, {"exp": "soon"}, {"jti": None}, {"cred": ["a"]}, {"aud": "other"}],
)
def test_tokens_with_odd_claims_are_refused_though_the_signature_is_right(
    claims: dict[str, object],
) -> None:
    clock = ManualClock()
    token = mint(clock).make(org_id=ORG, user_id=ADA, credential_id=FAMILY)
    good = jwt.decode(token, options={"verify_signature": False})
    odd = jwt.encode(good | claims, KEY, algorithm="EdDSA")
    with pytest.raises(BadCredential):
        mint(clock).read(odd)


@given(st.text())
def test_no_text_breaks_the_reading_of_tokens(text: str) -> None:
    with pytest.raises(BadCredential):
        mint(ManualClock()).read(text)


@given(st.dictionaries(st.sampled_from(["authorization", "x-api-key"]), st.text()))
def test_a_credential_is_found_or_refused(headers: dict[str, str]) -> None:
    with suppress(BadCredential):
        assert credential_in(headers)


def test_a_bucket_empties_refills_and_says_when() -> None:
    clock = ManualClock()
    buckets = Buckets(burst=10, seconds=60, clock=clock)
    assert [buckets.take("a") for _ in range(10)] == [0.0] * 10
    wait = buckets.take("a")
    assert wait == pytest.approx(6.0)
    assert buckets.take("b") == 0.0
    clock.advance(wait - 0.01)
    assert buckets.take("a") > 0
    clock.advance(0.02)
    assert buckets.take("a") == 0.0
    clock.advance(3600)
    assert [buckets.take("a") for _ in range(11)][-1] > 0


def test_buckets_are_bounded() -> None:
    buckets = Buckets(burst=1, seconds=60, clock=ManualClock())
    for number in range(REMEMBERED + 10):
        buckets.take(str(number))
    assert len(buckets._buckets) == REMEMBERED


@given(st.integers(-1000, 5000) | st.none())
def test_limits_are_coerced(limit: int | None) -> None:
    assert 1 <= coerced(limit) <= 200


@given(st.uuids())
def test_cursors_survive_being_passed_around(last: UUID) -> None:
    assert decode_cursor(encode_cursor(last), start=FIRST_ID) == last
    assert decode_cursor(None, start=last) == last


@pytest.mark.parametrize("cursor", ["x", "AAAA", "é", "A" * 21, "A" * 23, "!" * 22])
def test_other_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(Invalid):
        decode_cursor(cursor, start=FIRST_ID)


@given(st.lists(st.uuids(), unique=True, max_size=20), st.integers(1, 10))
def test_a_page_has_a_cursor_exactly_when_there_is_more(ids: list[UUID], most: int) -> None:
    page = page_by_id(sorted(ids)[: most + 1], most, lambda one: one, str)
    assert len(page.items) == min(len(ids), most)
    assert (page.next_cursor is not None) == (len(ids) > most)


@given(st.integers(0, 4_000_000_000_000_000))
def test_instants_survive_being_written(us: int) -> None:
    assert parse_instant("from", instant(us)) == us
    assert seconds(us) == us / 1_000_000


@pytest.mark.parametrize("text", ["2026-01-19T10:00:00+01:00", "2026-01-19T10:00:00 01:00"])
def test_a_plus_that_became_a_space_is_forgiven(text: str) -> None:
    assert instant(parse_instant("from", text)) == "2026-01-19T09:00:00Z"


@pytest.mark.parametrize("text", ["", "now", "2026-01-19", "2026-01-19T10:00:00", "1768816800"])
def test_other_instants_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_instant("from", text)


def test_ranges_are_whole_and_in_order() -> None:
    assert parse_range(None, None) is None
    for from_, to in (("2026-01-19T10:00:00Z", None), (None, "2026-01-19T10:00:00Z")):
        with pytest.raises(Invalid):
            parse_range(from_, to)
    with pytest.raises(Invalid):
        parse_range("2026-01-19T10:00:00Z", "2026-01-19T10:00:00Z")


@pytest.mark.parametrize("text", ["2026-02-30", "20260119", "2026-W04-1", "26-01-19", "today", ""])
def test_other_dates_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_date("date", text)


def test_a_kept_answer_opens_only_under_the_key_that_closed_it() -> None:
    kept = Kept("application/json", b'{"key":"secret"}')
    sealed = Seal(KEY).close(kept)
    assert b"secret" not in sealed
    assert Seal(KEY).open(sealed) == kept
    assert Seal(Ed25519PrivateKey.generate()).open(sealed) is None
