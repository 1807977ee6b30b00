"""Internal tokens: signed by the gateway, verified by everyone, for a minute."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chassis import identity
from chassis.clock import MICROSECONDS, ManualClock
from chassis.errors import Forbidden
from chassis.identity import (
    INTERNAL_AUDIENCE,
    INTERNAL_TOKEN_SECONDS,
    InternalSigner,
    InternalVerifier,
    Principal,
    current_principal,
    load_private_key,
    load_public_key,
)
from chassis.ids import new_id

KEY = Ed25519PrivateKey.generate()
ANNA = Principal(
    org_id=new_id(),
    user_id=new_id(),
    role="manager",
    scopes=frozenset({"read", "events:write"}),
    credential_id="key-1",
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def signer(clock: ManualClock) -> InternalSigner:
    return InternalSigner(KEY, clock)


@pytest.fixture
def verifier(clock: ManualClock) -> InternalVerifier:
    return InternalVerifier(KEY.public_key(), clock)


@pytest.fixture
def forge(clock: ManualClock) -> Callable[..., str]:
    """A token with claims of our choice, signed by the right key unless told otherwise."""

    def make(*, key: Any = KEY, algorithm: str = "EdDSA", **changes: Any) -> str:
        claims: dict[str, Any] = {
            "aud": INTERNAL_AUDIENCE,
            "exp": clock.now_us() // MICROSECONDS + 60,
            "org": str(ANNA.org_id),
            "sub": str(ANNA.user_id),
            "role": "owner",
        }
        claims.update(changes)
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, key, algorithm=algorithm)

    return make


def test_the_caller_survives_the_way_through_a_token(
    signer: InternalSigner, verifier: InternalVerifier
) -> None:
    assert verifier.verify(signer.token_for(ANNA)) == ANNA


def test_a_token_is_refused_once_it_has_expired_even_when_it_was_seen_before(
    signer: InternalSigner, verifier: InternalVerifier, clock: ManualClock
) -> None:
    token = signer.token_for(ANNA)
    clock.advance(INTERNAL_TOKEN_SECONDS - 1)
    assert verifier.verify(token) == ANNA
    clock.advance(1)
    with pytest.raises(Forbidden, match="expired"):
        verifier.verify(token)
    with pytest.raises(Forbidden, match="expired"):
        verifier.verify(token)


def test_a_token_of_another_installation_is_refused(
    verifier: InternalVerifier, clock: ManualClock
) -> None:
    foreign = InternalSigner(Ed25519PrivateKey.generate(), clock).token_for(ANNA)
    with pytest.raises(Forbidden, match="not valid"):
        verifier.verify(foreign)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "timeloom-access"},
        {"aud": None},
        {"exp": None},
        {"org": None},
        {"sub": None},
        {"role": None},
        {"org": "not-a-uuid"},
        {"sub": "../other"},
    ],
    ids=str,
)
def test_a_token_for_something_else_is_refused(
    verifier: InternalVerifier, forge: Callable[..., str], changes: dict[str, Any]
) -> None:
    assert verifier.verify(forge()).role == "owner"
    with pytest.raises(Forbidden, match="not valid"):
        verifier.verify(forge(**changes))


def test_a_token_signed_with_the_public_key_as_a_shared_secret_is_refused(
    verifier: InternalVerifier, forge: Callable[..., str]
) -> None:
    public = KEY.public_key().public_bytes_raw()
    with pytest.raises(Forbidden):
        verifier.verify(forge(key=public * 2, algorithm="HS256"))


def test_an_unsigned_token_is_refused(
    verifier: InternalVerifier, forge: Callable[..., str]
) -> None:
    with pytest.raises(Forbidden):
        verifier.verify(forge(key=None, algorithm="none"))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "Bearer ", "\x00", "é" * 20])
def test_what_is_no_token_is_refused(verifier: InternalVerifier, token: str) -> None:
    with pytest.raises(Forbidden):
        verifier.verify(token)


def test_a_changed_token_is_refused(signer: InternalSigner, verifier: InternalVerifier) -> None:
    header, claims, signature = signer.token_for(ANNA).split(".")
    other = InternalSigner(KEY, ManualClock()).token_for(
        Principal(org_id=new_id(), user_id=new_id(), role="owner")
    )
    with pytest.raises(Forbidden):
        verifier.verify(".".join([header, other.split(".")[1], signature]))
    with pytest.raises(Forbidden):
        verifier.verify(f"{header}.{claims}.")


def test_a_signed_token_is_used_again_for_the_first_half_of_its_life(
    signer: InternalSigner, clock: ManualClock
) -> None:
    first = signer.token_for(ANNA)
    clock.advance(INTERNAL_TOKEN_SECONDS / 2 - 1)
    assert signer.token_for(ANNA) == first
    clock.advance(1)
    assert signer.token_for(ANNA) != first


def test_callers_that_differ_get_different_tokens(signer: InternalSigner) -> None:
    guest = Principal(org_id=ANNA.org_id, user_id=ANNA.user_id, role="guest")
    assert signer.token_for(ANNA) != signer.token_for(guest)


def test_the_memory_of_seen_tokens_is_bounded(
    signer: InternalSigner, verifier: InternalVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "VERIFIED_TOKENS_KEPT", 3)
    for _ in range(5):
        verifier.verify(
            signer.token_for(Principal(org_id=new_id(), user_id=new_id(), role="member"))
        )
    assert len(verifier._cache) == 3
    assert len(signer._cache) == 3


def test_a_refused_token_leaves_nothing_behind(verifier: InternalVerifier) -> None:
    with pytest.raises(Forbidden):
        verifier.verify("a.b.c")
    assert not verifier._cache


def test_outside_a_request_there_is_no_caller() -> None:
    with pytest.raises(Forbidden):
        current_principal()


def test_roles_are_ordered_and_unknown_ones_are_worth_nothing() -> None:
    assert ANNA.is_at_least("member")
    assert ANNA.is_at_least("manager")
    assert not ANNA.is_at_least("admin")
    stranger = Principal(org_id=ANNA.org_id, user_id=UUID(int=0), role="service")
    assert not stranger.is_at_least("guest")
    with pytest.raises(Forbidden, match="admin"):
        ANNA.require_role("admin")
    ANNA.require_role("guest")


def test_scopes_are_required_by_name() -> None:
    ANNA.require_scope("read")
    with pytest.raises(Forbidden, match="jobs:write"):
        ANNA.require_scope("jobs:write")


def test_keys_are_read_from_pem_and_other_kinds_are_refused(tmp_path: Path) -> None:
    private = tmp_path / "key.pem"
    public = tmp_path / "key.pub.pem"
    write_pair(KEY, private, public)
    assert load_private_key(private).private_bytes_raw() == KEY.private_bytes_raw()
    assert load_public_key(public).public_bytes_raw() == KEY.public_key().public_bytes_raw()
    write_pair(new_ec_key(SECP256R1()), private, public)
    with pytest.raises(TypeError, match="Ed25519"):
        load_private_key(private)
    with pytest.raises(TypeError, match="Ed25519"):
        load_public_key(public)


def write_pair(key: Any, private: Path, public: Path) -> None:
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
