"""Appends that share a transaction, each with the answer it would have got alone."""

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain import groups
from services.ingest.domain.columns import Columns
from services.ingest.domain.groups import Answer, Append, Key
from tests.unit.ingest.reports import NOW, SOURCE, admitted, report, rows

ORG = UUID(int=1)
ANA = UUID(int=0xA)
DEVICES = [UUID(int=0xD), UUID(int=0xE)]


class Store:
    """What the database does, on one row at a time or on a whole group (store/appends.py)."""

    def __init__(self) -> None:
        self.starts: dict[Key, int] = {}
        self.events: dict[tuple[Key, int], tuple[int, object]] = {}

    def take(self, appends: Sequence[Append]) -> tuple[list[Answer], list[Columns]]:
        """One group: the answers, and what is announced for each append."""
        claims = groups.claims(appends)
        starts = {key: self.starts.setdefault(key, claim.start_us) for key, claim in claims.items()}
        plan = groups.plan(appends, starts)
        changes: dict[Key, int | None] = {}
        sent = 0
        for append, indexes in zip(appends, plan.contenders, strict=True):
            for index in indexes:
                key, row = (
                    Key(append.scope + append.columns.ids[index]),
                    rows(append.columns)[index],
                )
                claim = append.columns.claims[index]
                known = self.events.get((key, row[1]))
                assert key not in changes, "an identity reached the store twice"
                sent += 1
                if known is None or claim > known[0]:
                    self.events[key, row[1]] = (claim, row)
                    changes[key] = known[0] if known else None
        are_all_new = len(changes) == sent and not any(changes.values())
        outcome = groups.settle(plan, None if are_all_new else changes)
        announced = [
            append.columns.take(indexes)
            for append, indexes in zip(appends, outcome.changed, strict=True)
        ]
        return outcome.answers, announced


def append(*events: dict[str, object], device: UUID = DEVICES[0], source: str = SOURCE) -> Append:
    admission = admitted(*events, source=source)
    return Append(
        org_id=ORG,
        user_id=ANA,
        device_id=device,
        source=source,
        columns=admission.columns,
        chosen=admission.chosen,
        received_us=NOW,
    )


events = st.builds(
    report,
    st.integers(0, 2),
    st.integers(0, 3),
    name=st.sampled_from(["", "", "x", "y"]),
    app=st.sampled_from(["a", "b"]),
)
appends = st.builds(
    lambda reports, device: append(*reports, device=device),
    st.lists(events, min_size=1, max_size=6),
    st.sampled_from(DEVICES),
)


@given(st.lists(st.lists(appends, min_size=1, max_size=5), min_size=1, max_size=4))
def test_a_group_answers_and_stores_what_its_appends_would_one_by_one(batches):
    together, one_by_one = Store(), Store()
    for group in batches:
        answers, _ = together.take(group)
        assert answers == [one_by_one.take([one])[0][0] for one in group]
        assert together.events == one_by_one.events
        assert together.starts == one_by_one.starts


@given(st.lists(st.lists(appends, min_size=1, max_size=5), min_size=1, max_size=4))
def test_what_is_announced_is_all_that_is_stored(batches):
    store, heard = Store(), {}
    for group in batches:
        for one, columns in zip(group, store.take(group)[1], strict=True):
            for row in rows(columns):
                heard[Key(one.scope + row[0]), row[1]] = (row[3], row)
    assert heard == store.events


@given(st.lists(appends, min_size=1, max_size=5))
def test_a_second_time_everything_is_a_duplicate(group):
    store = Store()
    store.take(group)
    before = dict(store.events)
    answers, announced = store.take(group)
    assert answers == [Answer(0, len(one.columns)) for one in group]
    assert not any(len(columns) for columns in announced)
    assert store.events == before


# Of equals in length the first stays, and of a client's id the first start: both left out here.
unnamed = st.builds(
    lambda reports, device: append(*reports, device=device),
    st.lists(st.builds(report, st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6),
    st.sampled_from(DEVICES),
)


@given(st.lists(unnamed, min_size=1, max_size=5), st.randoms())
def test_the_longest_report_is_what_stays_whatever_the_order(group, random):
    first, second = Store(), Store()
    first.take(group)
    second.take(random.sample(group, len(group)))
    assert first.events == second.events


def test_an_event_in_two_requests_is_accepted_once():
    answers, announced = Store().take([append(report(0)), append(report(0))])
    assert answers == [Answer(1, 0), Answer(0, 1)]
    assert [len(columns) for columns in announced] == [1, 0]


def test_an_event_twice_in_one_request_is_accepted_once():
    assert Store().take([append(report(0), report(0))])[0] == [Answer(1, 1)]


def test_an_event_that_grows_within_a_group_is_accepted_for_both_and_told_once_at_its_longest():
    answers, announced = Store().take([append(report(0, 5)), append(report(0, 9), report(0, 7))])
    assert answers == [Answer(1, 0), Answer(1, 1)]
    assert [[e - s for s, e in zip(c.start_us, c.end_us, strict=True)] for c in announced] == [
        [],
        [9_000_000],
    ]


def test_devices_do_not_share_identities():
    group = [append(report(0, name="x"), device=device) for device in DEVICES]
    assert Store().take(group)[0] == [Answer(1, 0), Answer(1, 0)]


def test_a_clients_id_with_another_start_is_a_duplicate():
    store = Store()
    group = [append(report(0, name="x")), append(report(60, 900, name="x"))]
    assert store.take(group)[0] == [Answer(1, 0), Answer(0, 1)]
    assert store.take([append(report(90, name="x"))])[0] == [Answer(0, 1)]
    assert len(store.events) == 1
