"""docs/asyncapi.yaml says what the gateway really speaks."""

from typing import Any, get_args

import msgspec
import pytest
import yaml

from services.gateway.payloads import live
from tools import asyncapi

DOCUMENT: dict[str, Any] = yaml.safe_load(asyncapi.TARGET.read_text(encoding="utf-8"))


def test_the_file_is_what_the_types_say() -> None:
    assert asyncapi.TARGET.read_text(encoding="utf-8") == asyncapi.text(), (
        "run `python -m tools.asyncapi`"
    )


def test_every_message_is_described_once_and_travels_somewhere() -> None:
    types = {*get_args(live.ClientMessage), *get_args(live.ServerMessage)}
    names = {one.__name__ for one in types}
    assert DOCUMENT["components"]["messages"].keys() == names
    assert DOCUMENT["channels"]["live"]["messages"].keys() == names
    spoken = [
        reference["$ref"].rpartition("/")[2]
        for operation in ("hear", "say")
        for reference in DOCUMENT["operations"][operation]["messages"]
    ]
    assert sorted(spoken) == sorted(names)


def test_every_reference_leads_somewhere() -> None:
    def check(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "$ref":
                    target: Any = DOCUMENT
                    for part in value.removeprefix("#/").split("/"):
                        target = target[part]
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    check(DOCUMENT)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("Subscribe", '{"type":"subscribe","channel":"me","since":"e:1"}'),
        ("Refresh", '{"type":"refresh","token":"t"}'),
        ("SetPresence", '{"type":"presence","state":"away"}'),
        ("Subscribed", live.encode(live.Subscribed("me", "e:1", recovered=True))),
        (
            "Message",
            live.encode_message(
                wire="org", position=live.Position("e", 1), event="x", data_json=b"{}", at_us=0
            ),
        ),
        ("Refreshed", live.encode(live.Refreshed(None))),
        ("Error", live.encode(live.Error("forbidden", "No.", "org"))),
        ("Bye", live.encode(live.Bye(3001, reconnect=True))),
    ],
)
def test_real_frames_fit_the_schemas(name: str, frame: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    fields = msgspec.json.decode(frame)
    assert fields.keys() == schema["properties"].keys()
    assert set(schema["required"]) <= fields.keys()
    assert fields["type"] in schema["properties"]["type"]["enum"]


def test_every_close_code_is_in_the_text() -> None:
    for farewell in live.FAREWELLS:
        assert f"| {farewell.code} |" in DOCUMENT["info"]["description"]
