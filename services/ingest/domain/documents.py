"""Free data of events and buckets: JSON objects in one canonical form, so that equal is equal."""

import math
from typing import Final

import msgspec

# Doubles stand for every whole number up to here exactly (RFC 8259 §6).
MAX_EXACT_WHOLE: Final = 2**53


def _number(literal: str) -> float:
    value = float(literal)
    if math.isinf(value):
        raise ValueError("Number out of range")
    # JavaScript has no 1.0, so 1.0 and 1 must be the same (RFC 8785 §3.2.2.3).
    return int(value) if value.is_integer() and abs(value) <= MAX_EXACT_WHOLE else value


_decoder: Final = msgspec.json.Decoder(dict[str, object], float_hook=_number)


def canonical(text: str) -> str:
    """`text` with sorted keys and no white space; empty for an empty object or nothing.

    Raises:
        ValueError: not a JSON object, or one that nests too deeply or holds an infinite number.
    """
    if not text:
        return ""
    try:
        document = _decoder.decode(text)
        return msgspec.json.encode(document, order="sorted").decode() if document else ""
    except RecursionError as error:
        raise ValueError("nests too deeply") from error
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
