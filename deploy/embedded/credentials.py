"""Passwords and token keys of one installation: made on first use, kept in ``secrets/``."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from deploy.embedded.folder import write_private

SERVICES = ("gateway", "ingest", "sessions", "scheduler", "realtime")
# `postgres` and `admin` are the operator's own; every other name is a service.
POSTGRES_ROLES = ("postgres", "gateway", "ingest", "sessions", "scheduler")
NATS_USERS = ("admin", *SERVICES)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """`postgres` and `nats` map a role or user to its password."""

    postgres: Mapping[str, str] = field(repr=False)
    nats: Mapping[str, str] = field(repr=False)
    valkey: str = field(repr=False)
    owner: str = field(repr=False)
    token_private_key: Path
    token_public_key: Path


def load_or_create(folder: Path) -> Credentials:
    """The credentials in `folder`, which exists; those that are missing are made and kept.

    A file written half never counts: each appears whole or not at all.
    """
    passwords_file = folder / "passwords.json"
    kept = json.loads(passwords_file.read_text()) if passwords_file.exists() else {}
    passwords = {
        "postgres": {role: new_password() for role in POSTGRES_ROLES} | kept.get("postgres", {}),
        "nats": {user: new_password() for user in NATS_USERS} | kept.get("nats", {}),
        "valkey": kept.get("valkey") or new_password(),
    }
    if passwords != kept:
        write_private(passwords_file, json.dumps(passwords, indent=2) + "\n")
    private, public = token_keys(folder)
    return Credentials(
        postgres=passwords["postgres"],
        nats=passwords["nats"],
        valkey=passwords["valkey"],
        owner=owner_password(folder / "owner-password"),
        token_private_key=private,
        token_public_key=public,
    )


def new_password() -> str:
    """128 random bits. A leading letter keeps nats-server from reading one as a number."""
    return "k" + secrets.token_hex(16)


def owner_password(path: Path) -> str:
    if not path.exists():
        write_private(path, new_password() + "\n")
    return path.read_text().strip()


def token_keys(folder: Path) -> tuple[Path, Path]:
    """The Ed25519 pair that signs and verifies tokens, as PEM files (private, public)."""
    private, public = folder / "token-private.pem", folder / "token-public.pem"
    if not (private.exists() and public.exists()):
        key = Ed25519PrivateKey.generate()
        write_private(
            private,
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        )
        write_private(
            public,
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        )
    return private, public
