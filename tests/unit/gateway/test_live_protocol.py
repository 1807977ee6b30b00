"""Frames, positions and channel names of the live protocol."""

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Invalid
from services.gateway.payloads.live import (
    FAREWELLS,
    Bye,
    Error,
    Message,
    Ping,
    Pong,
    Position,
    Refresh,
    Refreshed,
    ServerMessage,
    SetPresence,
    Subscribe,
    Subscribed,
    Unsubscribe,
    encode,
    encode_message,
    parse,
    parse_position,
    public_channel,
    wire_channel,
)

ADA = UUID(int=1)
SPACE = UUID("0199f3a2-7c1d-7e7c-a9d3-1f6f0b9ce2aa")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"subscribe","channel":"me"}', Subscribe("me")),
        ('{"type":"subscribe","channel":"org","since":"e:1"}', Subscribe("org", "e:1")),
        ('{"type":"unsubscribe","channel":"jobs"}', Unsubscribe("jobs")),
        ('{"type":"ping"}', Ping()),
        ('{"type":"refresh","token":"t"}', Refresh("t")),
        ('{"type":"presence","state":"away"}', SetPresence("away")),
    ],
)
def test_what_clients_say(text: str, message: object) -> None:
    assert parse(text) == message
    assert parse(text.encode()) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"type":"bye"}',
        '{"type":"presence","state":"dead"}',
        '{"type":1}',
        "\ud800",
    ],
)
def test_what_clients_must_not_say(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text)


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (
            Subscribed("me", "e:1", recovered=False),
            {"type": "subscribed", "channel": "me", "position": "e:1", "recovered": False},
        ),
        (Pong(), {"type": "pong"}),
        (Refreshed(None), {"type": "refreshed", "expires_at": None}),
        (
            Error("forbidden", "No."),
            {"type": "error", "code": "forbidden", "message": "No.", "channel": None},
        ),
        (Bye(3001, reconnect=True), {"type": "bye", "code": 3001, "reconnect": True}),
    ],
)
def test_what_the_gateway_says(message: ServerMessage, frame: dict[str, object]) -> None:
    assert msgspec.json.decode(encode(message)) == frame


DATA = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(), max_size=5
)


@given(DATA, st.text(max_size=20), st.integers(0, 2**63))
def test_a_message_holds_its_data_unchanged_on_one_line(
    data: dict[str, object], event: str, offset: int
) -> None:
    text = encode_message(
        wire=f"space.{SPACE}",
        position=Position("e", offset),
        event=event,
        data_json=msgspec.json.format(msgspec.json.encode(data), indent=2),
        at_us=0,
    )
    assert "\n" not in text
    assert msgspec.json.decode(text, type=Message) == Message(
        f"space:{SPACE}", f"e:{offset}", event, data, "1970-01-01T00:00:00Z"
    )


@given(st.text(min_size=1, max_size=20), st.integers(0, 2**63 - 1))
def test_positions_survive_the_way_to_the_client_and_back(epoch: str, offset: int) -> None:
    position = Position(epoch, offset)
    assert parse_position(str(position)) == position


@pytest.mark.parametrize("text", ["", ":1", "e", "e:", "e:-1", "e:1x", "e:٣", "e:" + "9" * 20])
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(Invalid):
        parse_position(text)


@pytest.mark.parametrize(
    ("public", "wire"),
    [
        ("me", f"user.{ADA}"),
        ("org", "org"),
        ("jobs", "jobs"),
        (f"space:{SPACE}", f"space.{SPACE}"),
    ],
)
def test_channels_have_a_public_name_and_a_wire_name(public: str, wire: str) -> None:
    assert wire_channel(public, ADA) == wire
    assert public_channel(wire) == public


@given(st.text(max_size=60))
def test_no_name_reaches_into_a_subject(text: str) -> None:
    try:
        wire = wire_channel(text, ADA)
    except Invalid:
        return
    assert not set(wire) & set("*> \r\n")
    assert wire.count(".") <= 1


@pytest.mark.parametrize(
    "name", ["ctl", "user.x", f"user:{ADA}", "space:", "space:*", "ME", "org."]
)
def test_other_names_stand_for_nothing(name: str) -> None:
    with pytest.raises(Invalid):
        wire_channel(name, ADA)


def test_close_codes_say_whether_to_come_back() -> None:
    assert {one.code: one.reconnect for one in FAREWELLS} == {
        3001: True,
        3005: True,
        3008: True,
        3010: True,
        3503: False,
        3504: False,
        3509: False,
        4401: False,
    }
