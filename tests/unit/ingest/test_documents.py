"""Free data in one canonical form."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.documents import canonical

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=5)


@given(objects)
def test_the_canonical_form_means_the_same_and_is_its_own_canonical_form(document):
    text = canonical(json.dumps(document))
    assert (json.loads(text) if text else {}) == document
    assert canonical(text) == text


@given(objects, st.randoms())
def test_neither_key_order_nor_white_space_matters(document, random):
    keys = random.sample(list(document), len(document))
    shuffled = json.dumps({key: document[key] for key in keys}, indent=3)
    assert canonical(shuffled) == canonical(json.dumps(document))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("{}", ""),
        (' {"b":1,"a":2} ', '{"a":2,"b":1}'),
        ('{"a":1.0}', '{"a":1}'),
        ('{"a":-0.0}', '{"a":0}'),
        ('{"a":1.50}', '{"a":1.5}'),
        ('{"a":"\\u0000"}', '{"a":"\\u0000"}'),
    ],
)
def test_examples(text, expected):
    assert canonical(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "1",
        "null",
        '"{}"',
        "{",
        '{"a":NaN}',
        '{"a":1e400}',
        '{"a":"\\ud800"}',
        '{"a":' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_what_is_no_plain_json_object_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        canonical(text)
