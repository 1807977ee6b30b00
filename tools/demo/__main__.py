"""`python -m tools.demo`: signs the studio up, sends its week, shows what came of it."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from chassis.clock import SystemClock, to_datetime
from tools.demo.people import ORGANIZATION, PASSWORD, PEOPLE, Person
from tools.demo.week import week_of

BATCH: Final = 1000
PATIENCE_SECONDS: Final = 60
console = Console()


class Studio:
    """The demo organization, over the public interface only."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._tokens: dict[str, dict[str, str]] = {}

    async def sign_up(self) -> None:
        """Registers the owner and invites the others; or signs everyone in who exists."""
        owner = PEOPLE[0]
        account = {
            "email": owner.email,
            "password": PASSWORD,
            "name": owner.name,
            "organization_name": ORGANIZATION,
        }
        reply = await self._client.post("/v1/auth/register", json=account)
        if reply.status_code == 409:
            await self._sign_in(owner)
        else:
            self._remember(owner, _ok(reply))
        for person in PEOPLE[1:]:
            if not await self._sign_in(person):
                await self._invite(person)
        for person in PEOPLE:
            zone = {"time_zone": person.time_zone}
            _ok(await self._client.patch("/v1/me", json=zone, headers=self._tokens[person.email]))

    async def _sign_in(self, person: Person) -> bool:
        account = {"email": person.email, "password": PASSWORD}
        reply = await self._client.post("/v1/auth/login", json=account)
        if reply.status_code == 401:
            return False
        self._remember(person, _ok(reply))
        return True

    async def _invite(self, person: Person) -> None:
        owner = self._tokens[PEOPLE[0].email]
        wanted = {"email": person.email, "role": person.role}
        invitation = _ok(await self._client.post("/v1/invitations", json=wanted, headers=owner))
        answer = {"token": invitation["token"], "name": person.name, "password": PASSWORD}
        self._remember(person, _ok(await self._client.post("/v1/invitations/accept", json=answer)))

    def _remember(self, person: Person, tokens: dict[str, Any]) -> None:
        self._tokens[person.email] = {"Authorization": f"Bearer {tokens['access_token']}"}

    async def send(self, person: Person, body: dict[str, Any]) -> dict[str, Any]:
        """One upload; what the service says of it."""
        headers = self._tokens[person.email]
        return _ok(await self._client.post("/v1/events", json=body, headers=headers))

    async def days(self, person: Person, first: date, last: date) -> list[dict[str, Any]]:
        """The person's days."""
        window = {"from": first.isoformat(), "to": last.isoformat()}
        headers = self._tokens[person.email]
        items: list[dict[str, Any]] = _ok(
            await self._client.get("/v1/days", params=window, headers=headers)
        )["items"]
        return items


def _ok(reply: httpx.Response) -> dict[str, Any]:
    if reply.is_error:
        raise SystemExit(
            f"{reply.request.method} {reply.url.path}: {reply.status_code}\n{reply.text}"
        )
    body: dict[str, Any] = reply.json()
    return body


async def run(url: str) -> None:
    """The whole demo against one installation."""
    today = to_datetime(SystemClock().now_us()).date()
    dates = [today - timedelta(days=back) for back in range(8, 0, -1)]
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        studio = Studio(client)
        await studio.sign_up()
        await _send_all(studio, dates)
        table = await _settled_table(studio, dates)
    console.print(table)
    console.print(f"Sign in at {url} as any of these people with the password [b]{PASSWORD}[/b].")


async def _send_all(studio: Studio, dates: Sequence[date]) -> None:
    uploads = [
        (person, body) for person in PEOPLE for body in week_of(person, list(dates)).bodies(BATCH)
    ]
    accepted = duplicates = 0
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Sending a week of activity", total=len(uploads))
        for person, body in uploads:
            reply = await studio.send(person, body)
            accepted += reply["accepted"]
            duplicates += reply["duplicates"]
            progress.advance(task)
    console.print(f"{accepted} events accepted, {duplicates} known before.")


async def _settled_table(studio: Studio, dates: Sequence[date]) -> Table:
    """Reads until two readings agree: sessions are derived a moment after events are kept."""
    before: list[list[float]] = []
    for _ in range(PATIENCE_SECONDS * 2):
        rows = []
        for person in PEOPLE:
            days = await studio.days(person, dates[0], dates[-1])
            rows.append([day["active_seconds"] for day in days])
        if rows == before and any(map(any, rows)):
            return _table(rows, dates)
        before = rows
        await asyncio.sleep(0.5)
    raise SystemExit("The days did not settle within a minute; look at the logs of sessions.")


def _table(rows: Sequence[Sequence[float]], dates: Sequence[date]) -> Table:
    table = Table(title=f"{ORGANIZATION}: active hours by local day")
    table.add_column("person")
    for day in dates:
        table.add_column(day.strftime("%a %d"), justify="right")
    for person, seconds in zip(PEOPLE, rows, strict=True):
        table.add_row(person.name, *(f"{s / 3600:.2f}" if s else "–" for s in seconds))
    return table


def _running_url() -> str:
    record = Path(os.environ.get("TIMELOOM_DATA", ".timeloom")) / "run.json"
    if not record.exists():
        sys.exit(f"There is no running Timeloom ({record} is missing): type `make up` first.")
    return str(json.loads(record.read_text())["url"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--url", help="installation to fill; default: the one `make up` started")
    wanted = parser.parse_args()
    asyncio.run(run(wanted.url or _running_url()))


if __name__ == "__main__":
    main()
