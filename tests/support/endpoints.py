"""What a running gateway serves, as its own description says."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx


class Endpoint(NamedTuple):
    """One method of one path; `places` are the parameters in the path, `queries` those after it."""

    method: str
    path: str
    places: tuple[str, ...]
    queries: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def address(self, places: Mapping[str, str]) -> str:
        """The path with its places filled in; a text can't leave its place."""
        path = self.path
        for place in self.places:
            path = path.replace(f"{{{place}}}", quote(places[place], safe=""))
        return path


async def served_by(url: str) -> list[Endpoint]:
    """Every endpoint; what only reads comes first, what removes comes last and the longest first."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        reply = await client.get("/openapi.json")
    assert reply.status_code == 200, reply.text
    found = [
        _endpoint(method.upper(), path, operation)
        for path, operations in reply.json()["paths"].items()
        for method, operation in operations.items()
    ]
    order = ("GET", "POST", "PUT", "PATCH", "DELETE")
    return sorted(found, key=lambda one: (order.index(one.method), -len(one.path), one.path))


def _endpoint(method: str, path: str, operation: Mapping[str, Any]) -> Endpoint:
    parameters = operation.get("parameters", [])

    def named(kind: str) -> tuple[str, ...]:
        return tuple(one["name"] for one in parameters if one["in"] == kind)

    return Endpoint(method, path, named("path"), named("query"))
