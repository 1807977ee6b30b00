"""What every refusal looks like: RFC 9457, with the field that is wrong."""

from typing import Any

import httpx

MEMBERS = {"type", "title", "status", "detail", "errors", "trace_id"}


def assert_problem(reply: httpx.Response, status: int, field: str | None = None) -> dict[str, Any]:
    """The body of a refusal with that status; `field` is one of those that it blames."""
    said = f"{reply.status_code} {reply.text[:500]}"
    assert reply.status_code == status, said
    assert reply.headers["content-type"] == "application/problem+json", said
    body: dict[str, Any] = reply.json()
    assert body.keys() == MEMBERS, said
    assert body["status"] == status, said
    assert body["type"].startswith("urn:timeloom:problem:"), said
    assert body["title"], said
    assert len(body["trace_id"]) == 32, said
    if field is not None:
        assert field in [error["field"] for error in body["errors"]], said
        assert all(error["message"] for error in body["errors"]), said
    return body
