"""JSON bodies to structs, with errors that name the field as the sender spells it."""

import re
from typing import Any, Final, TypeVar

import msgspec

from chassis.errors import Invalid, Violation

Body = TypeVar("Body")

_AT: Final = re.compile(r"^(?P<message>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_NAMED: Final = re.compile(
    r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL
)
NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Bounded by the types there are.
_decoders: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}
# PostgreSQL can't keep it, and nobody means it.
NUL_ESCAPE: Final = b"\\u0000"
NUL_MESSAGE: Final = "must not contain the character U+0000"
MAX_FIELD_CHARACTERS: Final = 200


class Malformed(Invalid):
    """The body is not valid JSON."""


def decode(body: bytes, type_: type[Body]) -> Body:
    """A body as `type_`.

    Raises:
        Malformed: it is not JSON.
        Invalid: it is, but not of that shape; names the first field that is wrong.
    """
    try:
        value: Body = decoder_of(type_).decode(body)
        if NUL_ESCAPE in body:
            refuse_nul(msgspec.json.decode(body))
    except msgspec.ValidationError as error:
        # The decoder stops at the first wrong field, perhaps before text that is no JSON.
        require_json(body)
        violation = violation_of(error)
        message = f"{violation.field}: {violation.message}" if violation.field else str(error)
        raise Invalid(message, violations=[violation]) from None
    except NOT_JSON as error:
        raise malformed(error) from None
    return value


def require_json(body: bytes) -> None:
    """Raises Malformed unless the body is JSON of whatever shape."""
    try:
        msgspec.json.decode(body)
    except NOT_JSON as error:
        raise malformed(error) from None


def malformed(error: Exception) -> Malformed:
    """The refusal of a body that a decoder could not read."""
    return Malformed(f"The body is not valid JSON: {error}.")


def decoder_of(type_: Any) -> msgspec.json.Decoder[Any]:
    """The one decoder of a type."""
    decoder = _decoders.get(type_)
    if decoder is None:
        decoder = _decoders[type_] = msgspec.json.Decoder(type_)
    return decoder


def violation_of(error: msgspec.ValidationError) -> Violation:
    """The field that msgspec stopped at; the empty field is the whole body."""
    match = _AT.match(str(error))
    message, path = (match["message"], match["path"] or "") if match else (str(error), "")
    path = path.removeprefix(".")
    if named := _NAMED.fullmatch(message):
        path = f"{path}.{named['name']}".removeprefix(".")
        is_missing = named["what"] == "missing required"
        message = "is required" if is_missing else "is not a known field"
    return Violation(path[:MAX_FIELD_CHARACTERS], message)


def refuse_nul(value: Any, path: str = "") -> None:
    """Looks through a decoded body for U+0000.

    Raises:
        Invalid: some text, or the name of a field, contains it.
    """
    match value:
        case str() if "\0" in value:
            raise Invalid.field(path, NUL_MESSAGE)
        case dict():
            for name, inner in value.items():
                refuse_nul(name, path)
                refuse_nul(inner, f"{path}.{name}".removeprefix("."))
        case list():
            for index, inner in enumerate(value):
                refuse_nul(inner, f"{path}[{index}]")
