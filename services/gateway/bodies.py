"""Reading a request's body outside the framework, no further than it may go."""

from typing import Any

from services.gateway.problems import TooLarge


async def read_body(receive: Any, limit_bytes: int, declared: str = "") -> bytes:
    """The whole body; empty when the client left in the middle.

    `declared` is the Content-Length, if there is one: what says that it is too long is not read.

    Raises:
        TooLarge: it is longer than `limit_bytes`; the rest is not read.
    """
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise TooLarge
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        # Nearly every body comes in one piece.
        body: bytes = message.get("body", b"")
        if len(body) > limit_bytes:
            raise TooLarge
        return body
    chunks: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit_bytes:
            raise TooLarge
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    return b""
