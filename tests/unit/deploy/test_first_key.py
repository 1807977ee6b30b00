"""The first key: made once over the public interface, finished after a crash in between."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.embedded.errors import CannotRun
from deploy.embedded.first_key import FirstKey, first_key
from deploy.embedded.ports import pick

Calls = list[tuple[str, dict[str, object], str]]
Answers = dict[str, tuple[int, object]]


@asynccontextmanager
async def gateway(answers: Answers) -> AsyncIterator[tuple[int, Calls]]:
    """Answers POSTs by path and keeps (path, body, authorization) of each."""
    calls: Calls = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        path = head.split()[1]
        calls.append((path, body, fields.get("authorization", "")))
        status, answer = answers[path]
        payload = json.dumps(answer).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(payload)}\r\n\r\n".encode())
        writer.write(payload)
        await writer.drain()
        writer.close()

    (port,) = pick(1)
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield port, calls
    finally:
        server.close()
        await server.wait_closed()


NEW_ACCOUNT: Answers = {
    "/v1/auth/register": (201, {"access_token": "TOKEN"}),
    "/v1/api-keys": (201, {"key": "tl_secret"}),
}


async def test_the_account_and_the_key_are_made_and_kept(tmp_path: Path) -> None:
    async with gateway(NEW_ACCOUNT) as (port, calls):
        made = await first_key("127.0.0.1", port, tmp_path, "a password")
        again = await first_key("127.0.0.1", port, tmp_path, "a password")
    assert made == again == FirstKey(email="owner@example.com", key="tl_secret")
    assert [path for path, _, _ in calls] == ["/v1/auth/register", "/v1/api-keys"]
    _, asked, authorization = calls[1]
    assert asked["scopes"] == ["events:write", "jobs:write", "read"]
    assert authorization == "bearer token"
    assert (tmp_path / "first-key.json").stat().st_mode & 0o777 == 0o600


async def test_an_account_that_exists_is_signed_in_instead(tmp_path: Path) -> None:
    answers = NEW_ACCOUNT | {
        "/v1/auth/register": (409, {"title": "exists"}),
        "/v1/auth/login": (200, {"access_token": "OTHER"}),
    }
    async with gateway(answers) as (port, calls):
        made = await first_key("127.0.0.1", port, tmp_path, "a password")
    assert made.key == "tl_secret"
    assert calls[-1][2] == "bearer other"


@pytest.mark.parametrize("path", ["/v1/auth/register", "/v1/api-keys"])
async def test_a_refusal_is_shown_and_nothing_is_kept(tmp_path: Path, path: str) -> None:
    async with gateway(NEW_ACCOUNT | {path: (503, {"title": "not now"})}) as (port, _):
        with pytest.raises(CannotRun, match=r"answered 503: .*not now"):
            await first_key("127.0.0.1", port, tmp_path, "a password")
    assert not any(kept(tmp_path))


def kept(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def test_no_gateway_is_an_error_that_names_the_call(tmp_path: Path) -> None:
    (port,) = pick(1)
    with pytest.raises(CannotRun, match=r"/v1/auth/register: .*refused"):
        await first_key("127.0.0.1", port, tmp_path, "a password")
