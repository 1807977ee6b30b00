"""People of a running suite, over its public interface only."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect

NOON = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
"""A midnight two days back; offsets in tests count from it."""


class Person:
    """Somebody signed in, with a client that sends their credential."""

    def __init__(self, url: str, tokens: dict[str, Any], email: str) -> None:
        self.url = url
        self.email = email
        self.token: str = tokens["access_token"]
        self.tokens = tokens
        self.id: str = tokens["user"]["id"]
        self.org_id: str = tokens["organization"]["id"]
        self.client = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30
        )

    @classmethod
    async def register(cls, url: str, *, zone: str = "UTC") -> Self:
        """A new organization and its owner."""
        name = secrets.token_hex(6)
        account = {
            "email": f"{name}@example.com",
            "password": "correct horse",
            "name": name,
            "organization_name": f"Org {name}",
        }
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            reply = await client.post("/v1/auth/register", json=account)
        assert reply.status_code == 201, reply.text
        person = cls(url, reply.json(), account["email"])
        if zone != "UTC":
            await person.ok("PATCH", "/v1/me", json={"time_zone": zone})
        return person

    async def invite(self, role: str) -> "Person":
        """Somebody new in the same organization."""
        email = f"{secrets.token_hex(6)}@example.com"
        invitation = await self.ok("POST", "/v1/invitations", json={"email": email, "role": role})
        answer = {"token": invitation["token"], "name": role, "password": "correct horse"}
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            reply = await client.post("/v1/invitations/accept", json=answer)
        assert reply.is_success, reply.text
        return Person(self.url, reply.json(), email)

    async def ok(self, method: str, path: str, **arguments: Any) -> Any:
        """A request that must succeed, and its JSON."""
        reply = await self.client.request(method, path, **arguments)
        assert reply.is_success, (method, path, reply.status_code, reply.text)
        return reply.json() if reply.content else None

    async def send(
        self, events: list[dict[str, Any]], *, device: str = "laptop", source: str = "test"
    ) -> dict[str, Any]:
        """Posts events that must be accepted."""
        body = {"device_id": device, "source": source, "events": events}
        answer: dict[str, Any] = await self.ok("POST", "/v1/events", json=body)
        return answer

    async def sessions(self, **filters: str) -> list[dict[str, Any]]:
        """Every session around NOON."""
        window = {
            "from": (NOON - timedelta(days=3)).isoformat(),
            "to": (NOON + timedelta(days=3)).isoformat(),
        }
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            query = {**window, **filters, "limit": "200"} | ({"cursor": cursor} if cursor else {})
            page = await self.ok("GET", "/v1/sessions", params=query)
            items += page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                return items

    async def active_seconds(self) -> float:
        """The sum of all active sessions."""
        return float(
            sum(s["active_seconds"] for s in await self.sessions() if s["kind"] == "active")
        )

    @asynccontextmanager
    async def live(self, channel: str = "me", since: str | None = None) -> AsyncIterator["Live"]:
        """A WebSocket subscribed to one channel."""
        address = self.url.replace("http", "ws", 1) + "/v1/live"
        headers = {"Authorization": f"Bearer {self.token}"}
        # A test that does not read everything must not keep the goodbye from being read.
        async with connect(address, additional_headers=headers, max_queue=None) as socket:
            live = Live(socket)
            wanted = {"type": "subscribe", "channel": channel} | ({"since": since} if since else {})
            await socket.send(json.dumps(wanted))
            live.subscribed = await live.until(lambda message: message["type"] == "subscribed")
            yield live

    async def close(self) -> None:
        await self.client.aclose()


class Live:
    """The messages of one WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.subscribed: dict[str, Any] = {}
        self.heard: list[dict[str, Any]] = []

    async def until(self, wanted: Any, *, seconds: float = 20) -> dict[str, Any]:
        """The first message for which `wanted(message)` holds; keeps all it heard."""
        import asyncio

        async with asyncio.timeout(seconds):
            while True:
                message: dict[str, Any] = json.loads(await self.socket.recv())
                self.heard.append(message)
                if wanted(message):
                    return message


def event(start: float, duration: float = 5, **attributes: Any) -> dict[str, Any]:
    """One event, seconds after NOON."""
    moment = NOON + timedelta(seconds=start)
    return {
        "start": moment.isoformat(),
        "duration": duration,
        "idle": False,
        "app": "Firefox",
        **attributes,
    }
