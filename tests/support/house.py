"""An organization that has one of everything, each marked, so that a leak can be seen."""

import json
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Self
from uuid import UUID, uuid4

import asyncpg
import httpx
import nats

from services.scheduler.domain.plans import Plan, Policy, Schedule
from services.scheduler.store import schedules
from tests.support.eventually import eventually
from tests.support.people import NOON, Live, Person, event
from tests.support.servers import Suite

SCOPES = ["events:write", "jobs:write", "read"]
# Texts that mean something to a bus, a database, a file system or a terminal.
INJECTIONS = (
    "*",
    ">",
    "a.b",
    f"{UUID(int=0)}.>",
    "../../v1/users",
    "'; DROP TABLE events; --",
    '"{}"',
    "a\x00b",
    "\r\nX-Evil: 1",
    "\u202e\u0301\U0001f4a5",
    "%s%n%00",
    "x" * 10_000,
)


class House:
    """One organization: its owner, a member, a key with every scope, and the ids of what it has.

    `marker` is part of every name, address and title in it; `ids` are by kind. The owner is online
    until `close`.
    """

    def __init__(self, suite: Suite, marker: str, owner: Person) -> None:
        self.suite = suite
        self.marker = marker
        self.owner = owner
        self.member: Person
        self.key = ""
        self.live: Live
        # Without a credential of its own.
        self.client = httpx.AsyncClient(base_url=suite.url, timeout=30)
        self.ids: dict[str, str] = {"org": owner.org_id, "owner": owner.id, "marker": marker}
        self._open = AsyncExitStack()

    @classmethod
    async def furnish(cls, suite: Suite) -> Self:
        """Registers it and fills it; returns when every list it can ask for shows something."""
        marker = f"mark{secrets.token_hex(6)}"
        account = {
            "email": f"{marker}-owner@example.com",
            "password": "correct horse",
            "name": f"{marker} Owner",
            "organization_name": f"{marker} Org",
        }
        async with httpx.AsyncClient(base_url=suite.url, timeout=30) as nobody:
            reply = await nobody.post("/v1/auth/register", json=account)
        assert reply.status_code == 201, reply.text
        house = cls(suite, marker, Person(suite.url, reply.json(), account["email"]))
        await house._people()
        await house._keys()
        await house._activity()
        await house._bucket()
        await house._schedule()
        await house._dead_letter()
        house.live = await house._open.enter_async_context(house.owner.live("org"))
        return house

    async def close(self) -> None:
        await self._open.aclose()
        await self.client.aclose()
        await self.member.close()
        await self.owner.close()

    @property
    def own(self) -> dict[str, str]:
        """The owner's credential as a header."""
        return {"Authorization": f"Bearer {self.owner.token}"}

    @property
    def credentials(self) -> Iterator[dict[str, str]]:
        """Headers of everybody who may do most here: a person and a machine, in each way to say so."""
        yield self.own
        yield {"Authorization": f"Bearer {self.key}"}
        yield {"X-API-Key": self.key}

    def seen_in(self, reply: httpx.Response) -> list[str]:
        """What is ours in an answer, except for what its request said already."""
        sent = f"{reply.request.url} {reply.request.content.decode()}"
        return [mine for mine in self.secrets if mine in reply.text and mine not in sent]

    @property
    def secrets(self) -> set[str]:
        """Texts that nobody else may ever be shown."""
        # Numbers are short enough to stand in a stranger's answer by accident.
        return {text for text in self.ids.values() if not text.isdigit()}

    async def _people(self) -> None:
        address = f"{self.marker}-member@example.com"
        invitation = await self.owner.ok(
            "POST", "/v1/invitations", json={"email": address, "role": "member"}
        )
        answer = {
            "token": invitation["token"],
            "name": f"{self.marker} Member",
            "password": "correct horse",
        }
        accepted = await self.owner.ok("POST", "/v1/invitations/accept", json=answer)
        self.member = Person(self.owner.url, accepted, address)
        self.ids["member"] = self.member.id
        waiting = {"email": f"{self.marker}-guest@example.com", "role": "guest", "guest_days": 3}
        self.ids["invitation"] = (await self.owner.ok("POST", "/v1/invitations", json=waiting))[
            "id"
        ]

    async def _keys(self) -> None:
        wanted = {"name": f"{self.marker} key", "scopes": SCOPES}
        self.key = (await self.owner.ok("POST", "/v1/api-keys", json=wanted))["key"]
        self.ids["key"] = (await self.owner.ok("POST", "/v1/api-keys", json=wanted))["id"]

    async def _activity(self) -> None:
        """Events with every attribute, and the sessions that become of them."""
        said = {
            name: f"{self.marker} {name}"
            for name in ("app", "title", "project", "file", "language", "category")
        }
        said["url"] = f"https://{self.marker}.example.org/{self.marker}"
        where = {"device": f"{self.marker} laptop", "source": f"{self.marker} agent"}
        for person in (self.owner, self.member):
            # Events that say the same have the same id, whoever sends them.
            said["title"] = f"{self.marker} {person.email}"
            events = [event(n * 60, 60, data={"note": self.marker}, **said) for n in range(3)]
            await person.send(events, **where)
        found = await self.owner.ok("GET", "/v1/events", params={"limit": "1"})
        self.ids["event"] = found["items"][0]["id"]
        devices = await self.owner.ok("GET", "/v1/devices")
        self.ids["device"] = devices["items"][0]["key"]

        async def derived() -> bool:
            return bool(await self.owner.sessions()) and bool(await self.member.sessions())

        await eventually(derived, within=20)
        self.ids["session"] = (await self.owner.sessions())[0]["id"]

    async def _bucket(self) -> None:
        name = f"aw-watcher-window_{self.marker}"
        place = f"/api/0/buckets/{name}"
        about = {"type": "currentwindow", "client": self.marker, "hostname": self.marker}
        await self.owner.ok("POST", place, json=about)
        await self.owner.ok("POST", f"{place}/events", json=[window_event(self.marker)])
        self.ids["bucket"] = name
        events = await self.owner.ok("GET", f"{place}/events")
        self.ids["bucket_event"] = str(events[0]["id"])

    async def _schedule(self) -> None:
        """Straight into the store: so far only the suite itself makes schedules."""
        schedule = Schedule(
            org_id=UUID(self.owner.org_id),
            id=uuid4(),
            name=f"{self.marker} schedule",
            job=f"nobody.{self.marker}",
            plan=Plan("every", "86400"),
            policy=Policy(overlap="allow_all", start_margin_seconds=86_400),
        )
        conn = await asyncpg.connect(self.suite.dsn("scheduler"), ssl=False)
        try:
            await schedules.declare(conn, schedule, "")
        finally:
            await conn.close()
        self.ids["schedule"] = str(schedule.id)
        run = await self.owner.ok("POST", f"/v1/schedules/{schedule.id}/trigger")
        self.ids["run"] = run["id"]

    async def _dead_letter(self) -> None:
        """What nobody can decode, on a subject of this organization."""
        client = await nats.connect(**self.suite.nats())
        subject = f"activity.v1.0.{self.owner.org_id}"
        message_id = f"{self.marker}-{uuid4()}"
        await client.jetstream().publish(
            subject, b"\xff" + self.marker.encode(), headers={"Nats-Msg-Id": message_id}
        )
        await client.close()

        async def indexed() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await self.owner.ok("GET", "/v1/ops/dead-letters"))[
                "items"
            ]
            return found

        [letter] = await eventually(indexed, within=20)
        self.ids["letter"] = letter["id"]
        self.ids["message"] = letter["message_id"]


def window_event(title: str, *, minutes: float = 0) -> dict[str, Any]:
    """What aw-watcher-window would say, an hour after NOON and later."""
    moment = NOON + timedelta(hours=1, minutes=minutes)
    return {
        "timestamp": moment.isoformat(),
        "duration": 60,
        "data": {"app": "Code", "title": title},
    }


def frame(kind: str, **fields: Any) -> str:
    """One frame of a live client."""
    return json.dumps({"type": kind, **fields})
