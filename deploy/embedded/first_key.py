"""The first organization and its API key, made through the public interface like any other."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.embedded import probe
from deploy.embedded.errors import CannotRun
from deploy.embedded.folder import write_private

OWNER_EMAIL = "owner@example.com"
SCOPES = ("events:write", "jobs:write", "read")
TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class FirstKey:
    """`key` is the secret that agents send; `email` signs in with secrets/owner-password."""

    email: str
    key: str


async def first_key(host: str, port: int, secrets: Path, password: str) -> FirstKey:
    """The key in ``secrets/first-key.json``; on the first call the account and the key are made.

    A crash between account and key is mended by the next call, which signs in instead.

    Raises:
        CannotRun: The gateway refused; the message says what it answered.
    """
    file = secrets / "first-key.json"
    if file.exists():
        kept = json.loads(file.read_text())
        return FirstKey(email=kept["email"], key=kept["key"])
    token = await access_token(host, port, password)
    made = await post(
        host,
        port,
        "/v1/api-keys",
        {"name": "first key", "scopes": list(SCOPES)},
        {"Authorization": f"Bearer {token}"},
    )
    key = FirstKey(email=OWNER_EMAIL, key=str(expect(made, 201, "key")["key"]))
    write_private(file, json.dumps({"email": key.email, "key": key.key}, indent=2) + "\n")
    return key


async def access_token(host: str, port: int, password: str) -> str:
    """Register the owner, or sign in when that was done before.

    Raises:
        CannotRun: Neither was accepted.
    """
    account = {"email": OWNER_EMAIL, "password": password}
    names = {"name": "Owner", "organization_name": "Local"}
    reply = await post(host, port, "/v1/auth/register", {**account, **names})
    if reply.status == 409:
        reply = await post(host, port, "/v1/auth/login", account)
        return str(expect(reply, 200, "access_token")["access_token"])
    return str(expect(reply, 201, "access_token")["access_token"])


async def post(
    host: str, port: int, path: str, body: object, headers: dict[str, str] | None = None
) -> probe.Reply:
    """Raises CannotRun when nobody answers."""
    try:
        return await probe.call(host, port, "POST", path, body, headers, TIMEOUT_SECONDS)
    except OSError as error:
        raise CannotRun(f"{path}: {error}") from error


def expect(reply: probe.Reply, status: int, field: str) -> dict[str, Any]:
    """The answer. Raises CannotRun unless it is an object with that status and field."""
    if reply.status != status or not isinstance(reply.body, dict) or field not in reply.body:
        raise CannotRun(f"the gateway answered {reply.status}: {reply.body}")
    return reply.body
