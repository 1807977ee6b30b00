"""What makes two reports the same event."""

from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.columns import Texts
from services.ingest.domain.identity import CLIENT_NAMESPACE, CONTENT_NAMESPACE, chosen_id
from tests.unit.ingest.reports import SOURCE, T0, admitted, ids, report

words = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
contents = st.fixed_dictionaries(
    {}, optional={name: words for name in Texts._fields if name != "data"}
)
reports = st.builds(
    lambda start, duration, flags, texts: report(start, duration, flags=flags, **texts),
    st.integers(0, 5),
    st.integers(0, 100),
    st.sampled_from([0, 1, 2]),
    contents,
)


def meaning(event):
    """What identity is about: everything but the duration, absent and empty being one."""
    said = {name: value for name, value in event.items() if name != "duration_us" and value}
    return tuple(sorted(said.items()))


@given(st.lists(reports, min_size=1, max_size=20))
def test_same_content_has_the_same_id_and_other_content_another(events):
    named = dict(zip(map(meaning, events), ids(*events), strict=True))
    assert [named[meaning(event)] for event in events] == ids(*events)
    assert len(set(named.values())) == len(named)


@given(st.lists(reports, min_size=1, max_size=20), st.randoms())
def test_an_id_depends_on_nothing_else_in_the_batch(events, random):
    alone = [ids(event)[0] for event in events]
    assert ids(*events) == alone
    order = random.sample(range(len(events)), len(events))
    assert ids(*(events[i] for i in order)) == [alone[i] for i in order]


def test_a_longer_report_is_the_same_event():
    assert ids(report(0, 5, app="Code")) == ids(report(0, 500, app="Code"))


@pytest.mark.parametrize(
    "other",
    [
        report(0.001, app="Code", title="a"),
        report(0, app="Code", title="b"),
        report(0, app="", title="a"),
        report(0, app="Codea", title=""),
        report(0, flags=2, app="Code", title="a"),
        report(0, 0, flags=5, app="Code", title="a"),
        report(0, app="Code", title="a", data='{"audible":true}'),
    ],
)
def test_another_start_state_or_attribute_is_another_event(other):
    assert ids(other) != ids(report(0, app="Code", title="a"))


def test_another_source_is_another_event():
    assert ids(report(0), source="a") != ids(report(0), source="b")


def test_starts_within_one_millisecond_are_one_event():
    assert ids(report(0.0001, app="Code")) == ids(report(0.0009, app="Code"))


def test_data_counts_by_meaning_not_by_spelling():
    one = report(0, data='{"b": 1.0, "a": [true, null]}')
    assert ids(one) == ids(report(0, data='{"a":[true,null],"b":1}'))


def test_a_content_id_is_a_uuid5_that_anyone_can_compute():
    fields = [SOURCE, str(T0 // 1000), "1", "Code", "a", "", "", "", "", "", '{"k":1}']
    expected = uuid5(CONTENT_NAMESPACE, "\0".join(fields))
    assert ids(report(0, app="Code", title="a", data='{"k": 1}')) == [expected.bytes]


@given(st.uuids())
def test_a_clients_uuid_is_taken_as_it_is(given_id):
    for spelling in (str(given_id), str(given_id).upper(), given_id.hex):
        assert chosen_id(spelling) == (given_id.bytes, True)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_any_other_client_id_is_hashed(text):
    try:
        UUID(text)
    except ValueError:
        assert chosen_id(text) == (uuid5(CLIENT_NAMESPACE, text).bytes, False)


@pytest.mark.parametrize("text", ["0" * 31 + " ", " " * 4 + "0" * 28, "g" * 32, "-" * 36])
def test_what_only_looks_like_a_uuid_is_hashed(text):
    assert chosen_id(text) == (uuid5(CLIENT_NAMESPACE, text).bytes, False)


def test_ids_are_chosen_event_by_event():
    chosen = UUID(int=7)
    admission = admitted(report(0), report(5, name=str(chosen)), report(10, name="mine"))
    assert admission.columns.ids[0] == ids(report(0))[0]
    assert admission.columns.ids[1] == chosen.bytes
    assert [(one.place, one.may_be_ours) for one in admission.chosen] == [(1, False), (2, False)]


def test_an_id_read_back_from_us_is_recognised_as_possibly_ours():
    ours = UUID(bytes=ids(report(0))[0])
    assert admitted(report(0, name=str(ours))).chosen[0].may_be_ours
