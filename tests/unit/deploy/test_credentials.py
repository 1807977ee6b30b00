"""Passwords and keys: made once, kept private, completed when a user is new."""

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from deploy.embedded.credentials import NATS_USERS, POSTGRES_ROLES, load_or_create


def test_they_are_made_once(tmp_path: Path) -> None:
    first = load_or_create(tmp_path)
    again = load_or_create(tmp_path)
    assert again == first
    assert set(first.postgres) == set(POSTGRES_ROLES)
    assert set(first.nats) == set(NATS_USERS)
    words = [*first.postgres.values(), *first.nats.values(), first.valkey, first.owner]
    assert len(set(words)) == len(words)
    assert all(word[0].isalpha() and word.isalnum() and len(word) > 30 for word in words)


def test_only_their_owner_reads_them(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_they_are_not_printed(tmp_path: Path) -> None:
    made = load_or_create(tmp_path)
    assert made.valkey not in repr(made)
    assert made.nats["admin"] not in repr(made)


def test_a_user_that_is_new_gets_a_password_and_the_others_keep_theirs(tmp_path: Path) -> None:
    before = load_or_create(tmp_path)
    file = tmp_path / "passwords.json"
    kept = json.loads(file.read_text())
    del kept["nats"]["realtime"]
    file.write_text(json.dumps(kept))
    after = load_or_create(tmp_path)
    assert after.nats["realtime"] != before.nats["realtime"]
    assert {**after.nats, "realtime": ""} == {**before.nats, "realtime": ""}
    assert after.postgres == before.postgres


def test_the_public_key_verifies_what_the_private_key_signs(tmp_path: Path) -> None:
    made = load_or_create(tmp_path)
    private = load_pem_private_key(made.token_private_key.read_bytes(), password=None)
    public = load_pem_public_key(made.token_public_key.read_bytes())
    assert isinstance(public, Ed25519PublicKey)
    public.verify(private.sign(b"token"), b"token")  # type: ignore[union-attr, call-arg]
