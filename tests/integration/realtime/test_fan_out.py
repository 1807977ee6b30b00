"""Facts of the suite become live messages, once, under the right organization."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.js.api import StreamConfig

from chassis.clock import SystemClock
from chassis.deadletters import DeadLetters, dlq_stream
from chassis.errors import Unavailable
from chassis.subscription import Delivery, PullLoop
from protos.accounts.v1 import announcements_pb2 as accounts
from protos.realtime.v1.announcements_pb2 import PresenceChanged
from protos.realtime.v1.realtime_pb2 import Presence
from protos.scheduler.v1.announcements_pb2 import RunChanged
from protos.sessions.v1.announcements_pb2 import TimeChanged
from protos.sessions.v1.sessions_pb2 import Day, Session
from tests.integration.realtime.conftest import ACME, ANA, BEN, RIVAL, Hub, Replica, delivery
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

NINE_US = 1_768_813_200_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def time_changed(version: int = 1, **parts: Any) -> TimeChanged:
    session = Session(
        id="s1",
        user_id=str(ANA),
        kind="active",
        start_us=NINE_US,
        end_us=NINE_US + 60_000_000,
        active_us=59_500_000,
        app="Code",
        apps=["Code"] * 60,
    )
    day = Day(date="2026-01-19", active_us=59_500_000, idle_us=0, session_count=1, version=version)
    given: dict[str, Any] = {"updated": [session], "removed": ["s0"], "days": [day], **parts}
    return TimeChanged(org_id=str(ACME), user_id=str(ANA), version=version, **given)


def member(**changes: Any) -> bytes:
    given = {"org_id": str(ACME), "user_id": str(ANA), "role": "member", "is_active": True}
    fact = accounts.MemberChanged(**{**given, "revision": 2, **changes})
    return accounts.AccountsAnnouncement(member_changed=fact).SerializeToString()


def packed(message_id: str, fact: Message, **more: Any) -> Delivery:
    return delivery(message_id, fact.SerializeToString(), **more)


async def live_count(admin: Client) -> int:
    """Messages in LIVE besides the notice of its epoch."""
    info = await admin.jetstream().stream_info("LIVE", subjects_filter="live.v1.*.*.>")
    subjects = info.state.subjects or {}
    org = await admin.jetstream().stream_info("LIVE", subjects_filter="live.v1.*.*")
    subjects |= org.state.subjects or {}
    return sum(count for subject, count in subjects.items() if ".all." not in subject)


async def test_a_change_of_time_reaches_the_person_and_the_managers(
    replica: Replica, hub: Hub
) -> None:
    await replica.fanout.on_sessions([packed("m1", time_changed(version=4))])
    await eventually(lambda: len(hub.on("org")) == 1)
    events = hub.on(f"user.{ANA}")
    assert [event for event, _ in events] == ["session.updated", "session.removed", "day.updated"]
    session = events[0][1]
    assert session["start"] == "2026-01-19T09:00:00Z"
    assert session["end"] == "2026-01-19T09:01:00Z"
    assert session["active_seconds"] == 59.5
    assert session["category"] is None
    assert session["version"] == 4
    assert len(session["apps"]) == 50
    assert hub.on("org") == [
        (
            "day.updated",
            {
                "user_id": str(ANA),
                "date": "2026-01-19",
                "active_seconds": 59.5,
                "idle_seconds": 0.0,
                "session_count": 1,
                "version": 4,
            },
        )
    ]


async def test_messages_carry_offsets_and_continue_the_trace(replica: Replica, hub: Hub) -> None:
    await replica.fanout.on_sessions([packed("m1", time_changed(), traceparent=PARENT)])
    await eventually(lambda: len(hub.on("org")) == 1)
    headers = hub.headers(f"user.{ANA}")
    offsets = [int(header["Nats-Sequence"]) for header in headers]
    assert offsets == sorted(set(offsets))
    assert [int(header["Nats-Last-Sequence"]) for header in headers] == [0, *offsets[:-1]]
    assert all(header["traceparent"].split("-")[1] == TRACE for header in headers)
    assert all("traceparent" in header for header in hub.headers("org"))


async def test_a_fact_that_comes_twice_is_told_once(
    replica: Replica, hub: Hub, admin: Client
) -> None:
    batch = [packed("m1", time_changed(1)), packed("m2", time_changed(2))]
    await replica.fanout.on_sessions(batch)
    told = await live_count(admin)
    assert told == 7
    await replica.fanout.on_sessions(batch)
    assert await live_count(admin) == told
    # A part that comes again with something new is told, the old part is not.
    await replica.fanout.on_sessions([batch[1], packed("m3", time_changed(3))])
    assert await live_count(admin) == told + 4
    await eventually(lambda: len(hub.on(f"user.{ANA}")) == 9)


async def test_a_crash_between_publishing_and_acknowledging_doubles_nothing(
    replica: Replica, admin: Client
) -> None:
    jetstream = admin.jetstream()
    await jetstream.add_stream(StreamConfig(name="SESSIONS", subjects=["sessions.v1.>"]))
    (subscription,) = (one for one in replica.fanout.subscriptions() if one.stream == "SESSIONS")
    attempts: list[int] = []

    async def crash_once(batch: Sequence[Delivery]) -> None:
        await subscription.handler(batch)
        attempts.append(batch[0].attempt)
        if len(attempts) == 1:
            raise Unavailable("the process died here")

    loop = PullLoop(
        bus=replica.bus,
        subscription=msgspec.structs.replace(subscription, handler=crash_once),
        dead_letters=DeadLetters(bus=replica.bus, service="realtime", clock=SystemClock()),
        clock=SystemClock(),
    )
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run(stopping))
        await jetstream.publish(
            f"sessions.v1.3.{ACME}",
            time_changed().SerializeToString(),
            headers={"Nats-Msg-Id": "outbox-1"},
        )
        await eventually(lambda: attempts == [1, 2])
        stopping.set()
    assert await live_count(admin) == 4


async def test_an_undecodable_fact_becomes_a_dead_letter_and_the_rest_is_told(
    replica: Replica, admin: Client, hub: Hub
) -> None:
    jetstream = admin.jetstream()
    await jetstream.add_stream(dlq_stream())
    await jetstream.add_stream(StreamConfig(name="SESSIONS", subjects=["sessions.v1.>"]))
    (subscription,) = (one for one in replica.fanout.subscriptions() if one.stream == "SESSIONS")
    letters = DeadLetters(bus=replica.bus, service="realtime", clock=SystemClock())
    loop = PullLoop(
        bus=replica.bus, subscription=subscription, dead_letters=letters, clock=SystemClock()
    )
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(loop.run(stopping))
        await jetstream.publish(f"sessions.v1.3.{ACME}", b"\xff\xff")
        await jetstream.publish(f"sessions.v1.3.{ACME}", time_changed().SerializeToString())
        await eventually(lambda: len(hub.on("org")) == 1)
        info = await jetstream.stream_info("DLQ")
        stopping.set()
    assert info.state.messages == 1


async def test_runs_are_told_to_their_organization_and_upkeep_to_nobody(
    replica: Replica, hub: Hub, admin: Client
) -> None:
    run = RunChanged(
        run_id="r1", job="sdk.report", state="running", scheduled_for_us=NINE_US, progress=0.5
    )
    upkeep = packed("m1", run)
    run.org_id = str(ACME)
    await replica.fanout.on_jobs([upkeep, packed("m2", run)])
    await eventually(lambda: len(hub.on("jobs")) == 1)
    assert hub.on("jobs") == [
        (
            "run.updated",
            {
                "id": "r1",
                "schedule_id": None,
                "job": "sdk.report",
                "state": "running",
                "attempt": 0,
                "scheduled_for": "2026-01-19T09:00:00Z",
                "progress": 0.5,
            },
        )
    ]
    assert await live_count(admin) == 1


async def test_gateways_are_told_whom_to_cut_off(replica: Replica, hub: Hub) -> None:
    revoked = accounts.CredentialRevoked(
        org_id=str(ACME), user_id=str(ANA), credential_id="family-1"
    )
    everything = accounts.CredentialRevoked(org_id=str(ACME), user_id=str(ANA))
    erased = accounts.UserErased(org_id=str(ACME), user_id=str(BEN))
    await replica.fanout.on_accounts(
        [
            packed("m1", accounts.AccountsAnnouncement(credential_revoked=revoked)),
            packed("m2", accounts.AccountsAnnouncement(credential_revoked=everything)),
            delivery("m3", member(is_active=False)),
            packed("m4", accounts.AccountsAnnouncement(user_erased=erased)),
            delivery("m5", member(role="manager", revision=9)),
            # A later version's fact is no reason to stop.
            delivery("m6", b""),
        ]
    )
    await eventually(lambda: len(hub.on("ctl")) == 5)
    ana, ben = str(ANA), str(BEN)
    assert hub.on("ctl") == [
        ("disconnect", {"user_id": ana, "credential_id": "family-1", "reason": "revoked"}),
        ("disconnect", {"user_id": ana, "credential_id": None, "reason": "revoked"}),
        ("disconnect", {"user_id": ana, "credential_id": None, "reason": "suspended"}),
        ("disconnect", {"user_id": ben, "credential_id": None, "reason": "erased"}),
        ("member.changed", {"user_id": ana, "role": "manager", "revision": 9}),
    ]


async def test_presence_is_told_to_managers_and_to_the_person(replica: Replica, hub: Hub) -> None:
    presence = Presence(user_id=str(ANA), state="online", connections=2, since_us=NINE_US)
    fact = PresenceChanged(org_id=str(ACME), presence=presence)
    await replica.fanout.on_presence([packed("m1", fact)])
    await eventually(lambda: len(hub.on(f"user.{ANA}")) == 1)
    expected = {
        "user_id": str(ANA),
        "state": "online",
        "connections": 2,
        "since": "2026-01-19T09:00:00Z",
    }
    assert hub.on("org") == hub.on(f"user.{ANA}") == [("presence.changed", expected)]


async def test_what_is_told_to_one_organization_is_heard_by_no_other(
    replica: Replica, hub: Hub
) -> None:
    theirs = time_changed()
    theirs.org_id = str(RIVAL)
    await replica.fanout.on_sessions([packed("m1", time_changed()), packed("m2", theirs)])
    await eventually(lambda: len(hub.heard) >= 8)
    for org in (ACME, RIVAL):
        assert len(hub.on(f"user.{ANA}", org)) == 3
        assert len(hub.on("org", org)) == 1


@pytest.mark.parametrize("org", ["*", f"{ACME}.org", ">", ""])
async def test_an_organization_that_is_no_uuid_never_becomes_a_subject(
    replica: Replica, admin: Client, org: str
) -> None:
    fact = time_changed()
    fact.org_id = org
    with pytest.raises(ValueError, match="badly formed"):
        await replica.fanout.on_sessions([packed("m1", fact)])
    assert await live_count(admin) == 0
