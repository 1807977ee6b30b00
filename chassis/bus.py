"""NATS JetStream: connection, streams, and atomic-batch publishing.

An atomic batch is one fsync on the server, so batching buys durability at little cost
(ADR 0002). NATS is transport, never truth (promise P9).
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from uuid import UUID

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.log import get_logger
from chassis.retry import startup
from chassis.settings import ServiceSettings

log = get_logger(__name__)

# Fixed for the life of an installation: changing it re-deals people to partitions.
PARTITIONS: Final = 16
# JetStream refuses larger atomic batches (ADR-50 of NATS).
MAX_BATCH: Final = 1000
# The server takes 8 MB; headers, and those that a dead letter adds, need room.
MAX_PAYLOAD_BYTES: Final = 7 * 1024 * 1024
ANSWER_SECONDS: Final = 8.0
CLOSE_SECONDS: Final = 2.0
_DUPLICATE_IN_BATCH: Final = 10201
_CONFIG_DIFFERS: Final = 10058
_STREAM_NOT_FOUND: Final = 10059
_SUBJECT: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")


class OutMessage(NamedTuple):
    """One message to publish; `message_id` makes repeats harmless within the dedupe window."""

    subject: str
    payload: bytes
    message_id: str
    headers: dict[str, str]


class Ack(NamedTuple):
    """Where a batch ended in its stream."""

    stream: str
    last_seq: int


class StreamState(NamedTuple):
    """What a publisher compares after a reconnect: a younger or shorter stream was rewound."""

    created: str
    last_seq: int


def partition_of(user_id: UUID) -> int:
    """The partition token of a person, 0 to PARTITIONS − 1; UUIDv7 ends in random bits."""
    return user_id.int % PARTITIONS


def check_subject(subject: str) -> None:
    """Raises ValueError unless `subject` is n ≥ 1 plain tokens: no wildcard, space or empty token."""
    if not _SUBJECT.fullmatch(subject):
        raise ValueError(f"not a subject to publish on: {subject!r}")


class Bus:
    """One connection of one service. `generation` grows with every reconnect.

    `replicas` is how many nodes of a NATS cluster keep a stream that is declared here.
    """

    def __init__(self, client: Client, *, replicas: int = 1) -> None:
        self._client = client
        self._replicas = replicas
        self._js = client.jetstream(timeout=ANSWER_SECONDS)
        self._declared: dict[str, StreamConfig] = {}
        # Bounded by the tasks of the process: one entry for each question without an answer yet.
        self._asking: set[asyncio.Timeout] = set()
        self.generation = 0

    @property
    def client(self) -> Client:
        """The raw connection, for core subscriptions."""
        return self._client

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    async def check(self) -> None:
        """Raises Unavailable while there is no connection; for readiness."""
        if not self.is_connected:
            raise Unavailable("NATS is not connected.")

    def disconnected(self) -> None:
        """Called by the connection: answers to open questions will not come any more."""
        for patience in self._asking:
            if not patience.expired():
                patience.reschedule(asyncio.get_running_loop().time())

    def reconnected(self) -> None:
        """Called by the connection; pull loops and relays look at `generation`."""
        self.generation += 1

    async def ensure_stream(self, config: StreamConfig) -> None:
        """Creates the stream or brings it to `config`; only the owning service calls this.

        From then on the stream is created again when the server has lost it.
        """
        if config.num_replicas is None:
            config = config.evolve(num_replicas=self._replicas)
        if config.name:
            self._declared[config.name] = config
        try:
            await self._js.add_stream(config)
        except nats.js.errors.BadRequestError as error:
            if error.err_code != _CONFIG_DIFFERS:
                raise
            await self._js.update_stream(config)

    async def restore_streams(self) -> None:
        """Creates again what this service declared and the server lost; a failure is only logged.

        A server that starts on an empty disk has no streams, and memory streams end with it.
        """
        for config in list(self._declared.values()):
            try:
                await self.ensure_stream(config)
            except (nats.errors.Error, TimeoutError) as error:
                log.warning("bus.stream_not_restored", stream=config.name, error=repr(error))

    async def stream_state(self, stream: str) -> StreamState:
        """Raises Unavailable while the stream can't be asked or does not exist."""
        reply = await self.request(f"$JS.API.STREAM.INFO.{stream}")
        error = reply.get("error", {})
        if error.get("err_code") == _STREAM_NOT_FOUND and stream in self._declared:
            await self.restore_streams()
            reply = await self.request(f"$JS.API.STREAM.INFO.{stream}")
        if "error" in reply:
            raise Unavailable(f"Stream {stream}: {reply['error'].get('description', '')}")
        return StreamState(reply["created"], reply["state"]["last_seq"])

    async def request(self, subject: str, body: object = None) -> dict[str, Any]:
        """One JetStream API call; the reply may hold `error`.

        Raises:
            Unavailable: no answer.
        """
        payload = json.dumps(body).encode() if body is not None else b""
        answer: dict[str, Any] = json.loads((await self._ask(subject, payload)).data)
        return answer

    async def publish(self, messages: Sequence[OutMessage]) -> Ack:
        """Publishes to one stream, all or nothing per 1,000; safe to repeat with the same ids.

        `messages` has n ≥ 1 entries whose subjects belong to one stream; they are stored in order.

        Raises:
            Unavailable: not known to be stored.
        """
        ack = Ack("", 0)
        for start in range(0, len(messages), MAX_BATCH):
            ack = await self._publish_chunk(messages[start : start + MAX_BATCH])
        return ack

    async def _publish_chunk(self, chunk: Sequence[OutMessage]) -> Ack:
        if len(chunk) == 1:
            return await self._publish_one(chunk[0])
        if not self.is_connected:
            raise Unavailable("The bus is away.")
        batch_id = new_id().hex
        for number, message in enumerate(chunk[:-1], start=1):
            headers = _batched(message, batch_id, number)
            try:
                await self._client.publish(message.subject, message.payload, headers=headers)
            except nats.errors.Error as error:
                raise Unavailable("The bus went away.") from error
        headers = _batched(chunk[-1], batch_id, len(chunk))
        headers["Nats-Batch-Commit"] = "1"
        reply = await self._ask(chunk[-1].subject, chunk[-1].payload, headers)
        answer = json.loads(reply.data)
        if "error" not in answer:
            return Ack(answer["stream"], answer["seq"])
        if answer["error"].get("err_code") == _DUPLICATE_IN_BATCH:
            # Some were stored by an earlier try whose answer was lost: one by one, repeats count
            # as success.
            ack = Ack("", 0)
            for message in chunk:
                ack = await self._publish_one(message)
            return ack
        raise Unavailable(f"The bus refused a batch: {answer['error']}")

    async def _publish_one(self, message: OutMessage) -> Ack:
        headers = {**message.headers, "Nats-Msg-Id": message.message_id}
        reply = await self._ask(message.subject, message.payload, headers)
        answer = json.loads(reply.data)
        if "error" in answer:
            raise Unavailable(f"The bus refused a message: {answer['error']}")
        return Ack(answer["stream"], answer["seq"])

    async def _ask(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> Msg:
        """One question and its answer; ends as soon as the connection is lost.

        nats-py keeps waiting for an answer that a dead connection can't bring, and buffers what is
        asked meanwhile, to be stored later behind the back of whoever gave up.
        """
        if not self.is_connected:
            raise Unavailable("The bus is away.")
        try:
            async with asyncio.timeout(ANSWER_SECONDS) as patience:
                self._asking.add(patience)
                try:
                    return await self._client.request(
                        subject, payload, timeout=2 * ANSWER_SECONDS, headers=headers
                    )
                finally:
                    self._asking.discard(patience)
        except nats.errors.NoRespondersError as error:
            # No stream takes this subject. When it is one of ours, the next try finds it again.
            await self.restore_streams()
            raise Unavailable(f"Nobody takes {subject}.") from error
        except (nats.errors.Error, TimeoutError) as error:
            raise Unavailable("The bus did not answer.") from error


def _batched(message: OutMessage, batch_id: str, number: int) -> dict[str, str]:
    return {
        **message.headers,
        "Nats-Msg-Id": message.message_id,
        "Nats-Batch-Id": batch_id,
        "Nats-Batch-Sequence": str(number),
    }


@asynccontextmanager
async def connect(settings: ServiceSettings, *, service: str) -> AsyncIterator[Bus]:
    """A connection that never gives up; waits for NATS while it starts."""
    client = Client()
    bus = Bus(client, replicas=settings.stream_replicas)

    async def on_reconnect() -> None:
        bus.reconnected()
        log.warning("bus.reconnected", generation=bus.generation)
        await bus.restore_streams()

    async def on_disconnect() -> None:
        bus.disconnected()
        log.warning("bus.disconnected")

    async def on_error(error: Exception) -> None:
        log.warning("bus.error", error=str(error) or type(error).__name__)

    await startup()(
        client.connect,
        servers=settings.nats_url.split(","),
        user=settings.nats_user or None,
        password=settings.nats_password.get_secret_value() or None,
        tls=_tls(settings),
        name=service,
        inbox_prefix=f"_INBOX.{service}".encode(),
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,
        connect_timeout=2,
        # A dead peer is seen after 20 s instead of the default 4 minutes.
        ping_interval=10,
        max_outstanding_pings=2,
        pending_size=16 * 1024 * 1024,
        reconnected_cb=on_reconnect,
        disconnected_cb=on_disconnect,
        error_cb=on_error,
    )
    try:
        yield bus
    finally:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.drain()
        except (TimeoutError, nats.errors.Error):
            await client.close()


def _tls(settings: ServiceSettings) -> ssl.SSLContext | None:
    if settings.nats_tls_ca_file is None:
        return None
    return ssl.create_default_context(cafile=str(settings.nats_tls_ca_file))
