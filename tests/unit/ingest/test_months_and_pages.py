"""Partitions by month, cursors, and ranges of ids."""

from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import to_us
from chassis.errors import Invalid
from services.ingest.domain import months, paging
from services.ingest.domain.admission import YEAR_2000_US
from services.ingest.domain.months import Month
from services.ingest.domain.paging import Place

instants = st.integers(YEAR_2000_US, 4_102_444_800_000_000)
places = st.builds(Place, instants, st.uuids(), st.uuids())


def us(*moment: int) -> int:
    return to_us(datetime(*moment, tzinfo=UTC))


@given(instants)
def test_an_instant_lies_in_its_month(instant):
    month = months.month_of(instant)
    assert months.first_us(month) <= instant < months.first_us(Month(month + 1))
    assert months.month_of(months.first_us(month)) == month


@given(st.lists(instants, max_size=20))
def test_the_months_of_a_batch_hold_every_event_of_it(batch):
    found = months.months_of(batch)
    assert {months.month_of(one) for one in batch} <= found
    # A batch that spans years does not make a partition for each month between.
    assert len(found) <= max(2, len(batch))


def test_months_are_named_by_their_first_day():
    december = months.month_of(us(2026, 12, 31, 23, 59, 59))
    assert [months.first_day(m) for m in months.ahead(months.first_us(december), 2)] == [
        date(2026, 12, 1),
        date(2027, 1, 1),
        date(2027, 2, 1),
    ]


def test_retention_keeps_whole_months_besides_the_current_one():
    now = us(2026, 3, 15)
    assert months.earliest_kept_us(now, None, YEAR_2000_US) == YEAR_2000_US
    assert months.earliest_kept_us(now, 1, YEAR_2000_US) == us(2026, 2, 1)
    assert months.earliest_kept_us(now, 3, YEAR_2000_US) == us(2025, 12, 1)
    assert months.earliest_kept_us(now, 9999, YEAR_2000_US) == YEAR_2000_US


@given(places)
def test_a_cursor_leads_back_to_its_place(place):
    assert paging.from_cursor(paging.to_cursor(place)) == place


@pytest.mark.parametrize("text", ["x", "AAAA", "é", "_" * 54, "A" * 53, " " * 54, "=" * 54])
def test_a_forged_cursor_is_refused(text):
    with pytest.raises(Invalid) as refusal:
        paging.from_cursor(text)
    assert refusal.value.violations[0].field == "cursor"


@given(places, st.text(st.characters(codec="ascii"), min_size=1, max_size=3))
def test_a_cursor_with_more_in_it_is_refused(place, more):
    with pytest.raises(Invalid):
        paging.from_cursor(paging.to_cursor(place) + more)


def test_a_page_has_a_size():
    assert [paging.page_size(limit) for limit in (0, 1, 200, 10_001)] == [50, 1, 200, 10_000]


@given(st.uuids())
def test_a_prefix_finds_its_id_and_no_other_prefix(event_id):
    prefix = event_id.int >> 76
    low, high = paging.id_range(prefix)
    assert low <= event_id <= high
    assert {low.int >> 76, high.int >> 76} == {prefix}


def test_a_prefix_has_at_most_52_bits():
    assert paging.id_range(2**52 - 1)[1] == UUID(int=2**128 - 1)
    with pytest.raises(Invalid):
        paging.id_range(2**52)
