"""Writes docs/asyncapi.yaml, the live protocol, from the types that the gateway really uses."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import yaml

from services.gateway.payloads import live

TARGET: Final = Path(__file__).resolve().parents[1] / "docs" / "asyncapi.yaml"
SCHEMAS: Final = "#/components/schemas/{name}"
SSE_PARAMETERS: Final = ("channel", "since", "ticket")
HEAD: Final = "# Written by `python -m tools.asyncapi` from services/gateway/payloads/live.py.\n"

DESCRIPTION: Final = """\
One JSON object a frame, told apart by `type`.

**Getting in.** `Authorization: Bearer <access token or API key>`, or `X-API-Key`, or, for browsers,
`?ticket=` from `POST /v1/live/tickets`: good for one connection within 30 seconds. The credential
needs the scope `read`. Without a good one the handshake is answered 401 as a problem (RFC 9457);
with a bad ticket it succeeds and is closed with 4401, since scripts in browsers see no more.

**Channels.** `me` is everything about the person. `org` and `jobs` are for managers and up,
`space:<id>` for its members.

**Resuming.** Keep the position of the last `subscribed` or `message` of each channel and give it as
`since` after a reconnect. `recovered: true`: everything missed follows, in order, once.
`recovered: false`: something may be missing, so reload what you show; it may also come later, when
the gateway missed something. No gap is ever silent. History reaches back about ten minutes.

**Staying.** `error` with `token_expiring` comes 30 s before the credential ends: send `refresh`.
Ten seconds after its end the connection is closed with 3005. Answer WebSocket pings.

**Limits.** 20 connections a person and replica, 100 subscriptions a connection, 30 messages a
second, 64 kB a frame. Frames that are wrong are answered by `error`; ten in a row end the
connection. A client that does not keep up (256 frames or 1 MiB behind) is closed with 3008 and
resumes.

**Closing.** `bye` comes first, where it still can, then a close frame with the same code:

"""


def document() -> dict[str, Any]:
    """The whole document as plain data."""
    client, server = get_args(live.ClientMessage), get_args(live.ServerMessage)
    _, schemas = msgspec.json.schema_components([*client, *server], ref_template=SCHEMAS)
    streamed = [live.Subscribed, live.Message, live.Error, live.Bye]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Timeloom live messages",
            "version": "1.0.0",
            "description": DESCRIPTION + _closings(),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": "{host}",
                "protocol": "wss",
                "variables": {"host": {"default": "127.0.0.1:8080"}},
                "security": [{"$ref": f"#/components/securitySchemes/{n}"} for n in _SECURITY],
            }
        },
        "channels": {
            "live": _channel(
                "/v1/live",
                "Everything, both ways, over WebSocket.",
                [*client, *server],
                bindings={"ws": {"method": "GET", "query": _query("ticket")}},
            ),
            "sse": _channel(
                "/v1/live/sse",
                "One channel as server-sent events. `data` is the message, `id` its position; "
                "`Last-Event-ID` resumes. A comment comes every 15 s of silence.",
                streamed,
                bindings={},
            ),
        },
        "operations": {
            "hear": _operation("receive", "live", client, "What clients may say."),
            "say": _operation("send", "live", server, "What the gateway says."),
            "stream": _operation("send", "sse", streamed, "What the gateway streams.")
            | {"bindings": {"http": {"method": "GET", "query": _query(*SSE_PARAMETERS)}}},
        },
        "components": {
            "messages": {one.__name__: _message(one) for one in (*client, *server)},
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": _SECURITY,
        },
    }


_SECURITY: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "httpApiKey", "in": "header", "name": "X-API-Key"},
    "ticket": {"type": "httpApiKey", "in": "query", "name": "ticket"},
}


def _closings() -> str:
    rows = [
        f"| {one.code} | {one.reason} | {'yes' if one.reconnect else 'no'} |"
        for one in live.FAREWELLS
    ]
    return "\n".join(["| code | because | come back |", "|---|---|---|", *rows])


def _channel(
    address: str, description: str, messages: Sequence[type], *, bindings: dict[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "address": address,
        "description": description,
        "messages": {
            one.__name__: {"$ref": f"#/components/messages/{one.__name__}"} for one in messages
        },
    }
    return found | ({"bindings": bindings} if bindings else {})


def _query(*names: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


def _operation(action: str, channel: str, messages: Sequence[type], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{one.__name__}"} for one in messages],
    }


def _message(one: type) -> dict[str, Any]:
    summary = (inspect.getdoc(one) or "").splitlines()[0]
    return {
        "name": one.__struct_config__.tag,  # type: ignore[attr-defined]  # msgspec's own
        "summary": summary,
        "payload": {"$ref": SCHEMAS.format(name=one.__name__)},
    }


class _Dumper(yaml.SafeDumper):
    """Text of several lines stays readable, and nothing is an alias."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _as_block(dumper: yaml.SafeDumper, text_: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text_ else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text_, style=style)


_Dumper.add_representer(str, _as_block)


def text() -> str:
    """The file as it should be."""
    return HEAD + yaml.dump(
        document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def main() -> None:
    """Writes the file."""
    TARGET.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
