"""nats.conf: every service can do its own work on the bus, and nobody else's."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, RePublish, RetentionPolicy, StreamConfig

SERVICES = ("gateway", "ingest", "sessions", "scheduler", "realtime")
EVERYBODY = frozenset(SERVICES)


@dataclass(frozen=True)
class Stream:
    """One stream of the suite: who declares it and publishes, a subject in it, who listens.

    `replayed` says that the scheduler may publish a dead letter into it again.
    """

    owner: str
    subject: str
    listeners: frozenset[str]
    extra: dict[str, Any] = field(default_factory=dict)
    replayed: bool = True

    @property
    def publishers(self) -> set[str]:
        return {self.owner, "scheduler"} if self.replayed else {self.owner}


STREAMS = {
    "ACCOUNTS": Stream("gateway", "accounts.v1.org", EVERYBODY),
    "ACTIVITY": Stream("ingest", "activity.v1.3.org", frozenset({"sessions"})),
    "TELEMETRY": Stream("ingest", "telemetry.v1.3.org", frozenset({"scheduler", "realtime"})),
    "SESSIONS": Stream("sessions", "sessions.v1.3.org", frozenset({"realtime"})),
    "JOBS": Stream("scheduler", "jobs.v1.org", frozenset({"sessions", "realtime"})),
    "PRESENCE": Stream("realtime", "presence.v1.org", frozenset({"realtime"})),
    "LIVE": Stream(
        "realtime",
        "live.v1.org.me",
        frozenset(),
        replayed=False,
        extra={
            "allow_direct": True,
            "republish": RePublish(src="live.v1.>", dest="rt.v1.>"),
        },
    ),
}
DECLARED_BY_SCHEDULER = {
    "WORK": StreamConfig(subjects=["work.v1.>"], retention=RetentionPolicy.WORK_QUEUE),
    "REPORTS": StreamConfig(subjects=["reports.v1.>"]),
    "DLQ": StreamConfig(subjects=["dlq.v1.>"]),
}


class Connections:
    """One connection for each user, and what the server refused on it."""

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self.refused: dict[str, list[str]] = {}

    async def open(self, user: str, arguments: dict[str, Any]) -> None:
        refused = self.refused.setdefault(user, [])

        async def note(error: Exception) -> None:
            refused.append(str(error).lower())

        self.clients[user] = await nats.connect(**arguments, error_cb=note)

    async def publishes(self, user: str, subject: str, payload: bytes = b"{}") -> bool:
        """Whether the server let `user` publish there."""
        await self.clients[user].publish(subject, payload)
        return await self._was_allowed(user, f'publish to "{subject}"'.lower())

    async def subscribes(self, user: str, subject: str) -> bool:
        """Whether the server let `user` subscribe there."""
        await self.clients[user].subscribe(subject)
        return await self._was_allowed(user, f'subscription to "{subject}"'.lower())

    async def _was_allowed(self, user: str, act: str) -> bool:
        # The ping of the first flush may overtake what is still buffered; the second comes after.
        await self.clients[user].flush()
        await self.clients[user].flush()
        return not any(act in refusal for refusal in self.refused[user])


@pytest.fixture
async def bus(nats_user: Callable[[str], dict[str, Any]]) -> AsyncIterator[Connections]:
    """Everybody connected, and every stream declared by its owner."""
    connections = Connections()
    for user in (*SERVICES, "admin"):
        await connections.open(user, nats_user(user))
    for name, stream in STREAMS.items():
        subjects = [stream.subject.split(".")[0] + ".v1.>"]
        config = StreamConfig(name=name, subjects=subjects, **stream.extra)
        await connections.clients[stream.owner].jetstream().add_stream(config)
    for name, declared in DECLARED_BY_SCHEDULER.items():
        await connections.clients["scheduler"].jetstream().add_stream(declared, name=name)
    yield connections
    for client in connections.clients.values():
        await client.close()


async def receive(client: Client, stream: str, consumer: str, subject: str) -> bytes:
    """Create a durable consumer, pull one message and acknowledge it."""
    config = ConsumerConfig(
        durable_name=consumer, filter_subject=subject, ack_policy=AckPolicy.EXPLICIT
    )
    await client.jetstream().add_consumer(stream, config, timeout=5)
    subscription = await client.jetstream().pull_subscribe_bind(consumer, stream=stream)
    (message,) = await subscription.fetch(1, timeout=5)
    await message.ack_sync(timeout=5)
    await subscription.unsubscribe()
    return message.data


@pytest.mark.parametrize("name", STREAMS)
async def test_the_owner_publishes_and_every_listener_receives(bus: Connections, name: str) -> None:
    stream = STREAMS[name]
    await bus.clients[stream.owner].jetstream().publish(stream.subject, b"fact", timeout=5)
    for listener in stream.listeners:
        consumer = f"{listener}-{name.lower()}-all"
        received = await receive(bus.clients[listener], name, consumer, stream.subject)
        assert received == b"fact", listener
    assert not any(bus.refused.values())


@pytest.mark.parametrize("name", STREAMS)
async def test_nobody_else_publishes_into_a_stream(bus: Connections, name: str) -> None:
    stream = STREAMS[name]
    allowed = {user for user in SERVICES if await bus.publishes(user, stream.subject)}
    assert allowed == stream.publishers


@pytest.mark.parametrize("name", STREAMS)
async def test_nobody_else_listens_to_a_stream(bus: Connections, name: str) -> None:
    requests = (
        f"$JS.API.CONSUMER.CREATE.{name}.spy",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{name}.spy",
        f"$JS.API.CONSUMER.MSG.NEXT.{name}.spy",
        f"$JS.ACK.{name}.spy.1.1.1.1.1",
    )
    for request in requests:
        allowed = {user for user in SERVICES if await bus.publishes(user, request)}
        assert allowed == STREAMS[name].listeners, request


async def test_only_the_owner_changes_a_stream_and_only_admin_deletes_it(bus: Connections) -> None:
    owners = {name: stream.owner for name, stream in STREAMS.items()}
    owners |= dict.fromkeys(DECLARED_BY_SCHEDULER, "scheduler")
    for name, owner in owners.items():
        for verb in ("CREATE", "UPDATE"):
            request = f"$JS.API.STREAM.{verb}.{name}"
            assert {user for user in SERVICES if await bus.publishes(user, request)} == {owner}
        for verb in ("DELETE", "PURGE"):
            request = f"$JS.API.STREAM.{verb}.{name}"
            assert not {user for user in SERVICES if await bus.publishes(user, request)}
        assert await bus.clients["admin"].jetstream().delete_stream(name)


async def test_each_service_gets_its_own_work_only(bus: Connections) -> None:
    dispatch = bus.clients["scheduler"].jetstream()
    for service in SERVICES:
        await dispatch.publish(f"work.v1.{service}.tidy", service.encode(), timeout=5)
    for service in SERVICES:
        foreign = next(other for other in SERVICES if other != service)
        for request in (
            f"$JS.API.CONSUMER.MSG.NEXT.WORK.{foreign}-work-all",
            f"$JS.API.CONSUMER.DURABLE.CREATE.WORK.{foreign}-work-all",
            f"$JS.API.CONSUMER.CREATE.WORK.{service}-work-all.work.v1.{foreign}.>",
            f"$JS.ACK.WORK.{foreign}-work-all.1.1.1.1.1",
        ):
            assert not await bus.publishes(service, request), (service, request)
        received = await receive(
            bus.clients[service], "WORK", f"{service}-work-all", f"work.v1.{service}.>"
        )
        assert received == service.encode()
    assert [s for s in SERVICES if await bus.publishes(s, "work.v1.ingest.tidy")] == ["scheduler"]


async def test_reports_and_dead_letters_carry_the_name_of_their_sender(bus: Connections) -> None:
    for sender in SERVICES:
        report, letter = f"reports.v1.{sender}", f"dlq.v1.{sender}.{sender}-activity-3"
        reporting = {user for user in SERVICES if await bus.publishes(user, report)}
        assert reporting == {sender, "scheduler"}, "the scheduler replays dead reports"
        assert {user for user in SERVICES if await bus.publishes(user, letter)} == {sender}
    received = await receive(
        bus.clients["scheduler"], "DLQ", "scheduler-dlq-all", "dlq.v1.ingest.>"
    )
    assert received == b"{}"


async def test_nobody_hears_anothers_answers_or_announcements(bus: Connections) -> None:
    for subject in ("_INBOX.>", "_INBOX.ingest.>", "activity.v1.>", "live.v1.>", ">"):
        allowed = {user for user in SERVICES if await bus.subscribes(user, subject)}
        assert allowed == ({"ingest"} if subject == "_INBOX.ingest.>" else set()), subject


async def test_the_gateway_alone_hears_live_messages(bus: Connections) -> None:
    assert [s for s in SERVICES if await bus.subscribes(s, "rt.v1.>")] == ["gateway"]
    heard = await bus.clients["gateway"].subscribe("rt.v1.org.>")
    await bus.clients["gateway"].flush()
    await bus.clients["realtime"].jetstream().publish("live.v1.org.me", b"now", timeout=5)
    message = await heard.next_msg(timeout=5)
    assert (message.subject, message.data) == ("rt.v1.org.me", b"now")
    assert not await bus.publishes("realtime", "rt.v1.org.me")


async def test_realtime_reads_the_live_window_and_scheduler_reads_any_message(
    bus: Connections,
) -> None:
    realtime = bus.clients["realtime"].jetstream()
    await realtime.publish("live.v1.org.me", b"kept", timeout=5)
    found = await realtime.get_msg("LIVE", subject="live.v1.org.me", direct=True)
    assert found.data == b"kept"
    await bus.clients["ingest"].jetstream().publish("activity.v1.3.org", b"event", timeout=5)
    seen = await bus.clients["scheduler"].jetstream().get_last_msg("ACTIVITY", "activity.v1.3.org")
    assert seen.data == b"event"
    reads = "$JS.API.STREAM.MSG.GET.ACTIVITY"
    assert [s for s in SERVICES if await bus.publishes(s, reads)] == ["scheduler"]
    streams = {info.config.name for info in await bus.clients["scheduler"].jsm().streams_info()}
    assert streams == {*STREAMS, *DECLARED_BY_SCHEDULER}
