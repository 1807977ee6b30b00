"""Facts as announcements: complete, for their own organization and partition, never too large."""

from uuid import UUID

import msgspec

from chassis.bus import partition_of
from protos.ingest.v1.announcements_pb2 import ActivityRecorded
from services.ingest.domain.columns import REMOVED
from services.ingest.domain.events import single
from services.ingest.publishers import (
    ACTIVITY_STREAM,
    MAX_MESSAGE_BYTES,
    Recorded,
    announce,
    kept,
    removed,
)
from tests.unit.ingest.reports import NOW, SOURCE, admitted, report

ORG, OTHER_ORG = UUID(int=1), UUID(int=2)
ANA, BEN = UUID(int=0xA), UUID(int=0xB)
DEVICE = UUID(int=0xD)


class Transaction:
    """Remembers what was announced."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, ActivityRecorded]] = []

    def announce(self, stream: str, subject: str, message: ActivityRecorded) -> None:
        assert stream == ACTIVITY_STREAM
        self.messages.append((subject, message))


def recorded(*events, user: UUID = ANA, org: UUID = ORG, source: str = SOURCE) -> Recorded:
    return Recorded(org, user, DEVICE, source, admitted(*events, source=source).columns, [])


def announced(*facts: Recorded) -> list[tuple[str, ActivityRecorded]]:
    tx = Transaction()
    announce(tx, facts)
    return tx.messages


def test_each_organization_and_partition_has_its_own_message():
    facts = [
        recorded(report(0)),
        recorded(report(5)),
        recorded(report(0), user=BEN),
        recorded(report(0), org=OTHER_ORG),
    ]
    messages = announced(*facts)
    assert [subject for subject, _ in messages] == [
        f"activity.v1.{partition_of(ANA)}.{ORG}",
        f"activity.v1.{partition_of(BEN)}.{ORG}",
        f"activity.v1.{partition_of(ANA)}.{OTHER_ORG}",
    ]
    # One entry for each source, however many appends reported it.
    assert [len(message.activity) for _, message in messages] == [1, 1, 1]
    assert messages[0][1].activity[0].events.event_id == [
        *facts[0].columns.ids,
        *facts[1].columns.ids,
    ]
    assert [message.org_id for _, message in messages] == [str(ORG), str(ORG), str(OTHER_ORG)]


def test_an_event_is_told_with_all_it_says():
    said = {"app": "Code", "title": "a", "url": "u", "project": "p", "file": "f", "language": "l"}
    fact = recorded(report(0, 5, data='{"k":1}', category="c", **said))
    [(_, message)] = announced(fact)
    [activity] = message.activity
    assert (activity.user_id, activity.device_id, activity.source) == (
        str(ANA),
        str(DEVICE),
        SOURCE,
    )
    events = activity.events
    assert events.event_id == fact.columns.ids
    assert list(events.duration_us) == [5_000_000]
    assert [getattr(events, name)[0] for name in said] == list(said.values())
    assert (events.data_json[0], events.category[0]) == ('{"k":1}', "c")
    assert not events.revision


def test_what_nobody_said_takes_no_room():
    [(_, message)] = announced(recorded(report(0), report(5)))
    assert not message.activity[0].events.app


def test_nothing_changed_means_nothing_said():
    fact = recorded(report(0))
    assert announced(fact._replace(columns=fact.columns.take([]))) == []


def test_large_batches_are_split_and_lose_nothing():
    events = [report(5 * i, title=f"{i} " + "x" * 2000) for i in range(1500)]
    fact = recorded(*events)
    messages = announced(fact, recorded(report(1), user=UUID(int=0x1A)))
    assert len(messages) > 5
    assert all(message.ByteSize() <= MAX_MESSAGE_BYTES + 100 for _, message in messages)
    ids = [
        event_id
        for _, message in messages
        for activity in message.activity
        if activity.user_id == str(ANA)
        for event_id in activity.events.event_id
    ]
    assert ids == fact.columns.ids


def test_the_largest_event_still_fits_a_message():
    most = {"title": "\U0001f600" * 4096, "url": "\U0001f600" * 8192, "file": "\U0001f600" * 4096}
    event = report(0, data='{"a":"' + "\U0001f600" * 65_500 + '"}', **most)
    [(_, message)] = announced(recorded(event))
    assert message.ByteSize() <= MAX_MESSAGE_BYTES


def test_single_events_carry_their_revision_and_tombstones_their_mark():
    columns = admitted(report(0, app="Code")).columns
    event = single(columns, device_id=DEVICE, source=SOURCE, received_us=NOW)
    [(_, message)] = announced(kept(ORG, ANA, event))
    assert list(message.activity[0].events.revision) == [0]
    [(_, message)] = announced(*removed(ORG, ANA, [event, event]))
    assert list(message.activity[0].events.flags) == [1 | REMOVED] * 2


def test_entries_of_one_source_are_merged_with_their_revisions():
    columns = admitted(report(0, app="Code")).columns
    event = single(columns, device_id=DEVICE, source=SOURCE, received_us=NOW)
    replaced = msgspec.structs.replace(event, revision=3)
    facts = [recorded(report(9), report(10)), kept(ORG, ANA, replaced), recorded(report(5))]
    [(_, message)] = announced(*facts, recorded(report(0), source="other"))
    assert [activity.source for activity in message.activity] == [SOURCE, "other"]
    events = message.activity[0].events
    assert list(events.revision) == [0, 0, 3, 0]
    assert list(events.app) == ["", "", "Code", ""]
    assert len(events.start_us) == len(events.flags) == len(events.duration_us) == 4
