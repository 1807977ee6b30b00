"""ActivityWatch's buckets of each person: one source on one device, remembered for a minute."""

from collections import OrderedDict
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from chassis.clock import Clock
from chassis.errors import NotFound
from chassis.identity import Principal
from protos.ingest.v1.ingest_pb2 import (
    Bucket,
    DeleteBucketRequest,
    ListBucketsRequest,
    PutBucketRequest,
)
from services.gateway.activitywatch_events import guessed_client, guessed_host, guessed_type
from services.gateway.clients import IngestClient
from services.gateway.domain import MAX_DEVICE_ID_CHARACTERS
from services.gateway.payloads.activitywatch import BucketBody
from services.gateway.usage import Usage

# Another replica may have deleted or changed it meanwhile.
FRESH_SECONDS: Final = 60.0
REMEMBERED: Final = 20_000
# What aw-server calls the host it runs on; here that is nobody's device.
LOCAL: Final = "!local"
LOCAL_HOST: Final = "local"


class Place(NamedTuple):
    """Where the events of a bucket are kept, and how they are read."""

    device_id: str
    name: str
    type: str


def place_of(bucket: Bucket) -> Place:
    """Where the events of a known bucket are."""
    return Place(bucket.device_id, bucket.name, bucket.type)


def looking(by: Principal) -> Principal:
    """The caller, able to read: finding where to write is part of writing.

    Agents' keys need no more than `events:write`. Whoever is shown what was found is asked for
    `read` before.
    """
    return msgspec.structs.replace(by, scopes=by.scopes | {"read"})


class Buckets:
    """Finds, makes and removes buckets."""

    def __init__(self, *, ingest: IngestClient, usage: Usage, clock: Clock) -> None:
        self._ingest = ingest
        self._usage = usage
        self._clock = clock
        self._known: OrderedDict[tuple[UUID, UUID, str], tuple[Place, float]] = OrderedDict()

    async def all_of(self, by: Principal) -> list[Bucket]:
        """Every bucket of the person, by name."""
        return list((await self._ingest.list_buckets(by, ListBucketsRequest())).buckets)

    async def find(self, by: Principal, name: str) -> Bucket | None:
        """One bucket."""
        found = await self._ingest.list_buckets(looking(by), ListBucketsRequest(name=name))
        return found.buckets[0] if found.buckets else None

    async def get(self, by: Principal, name: str) -> Bucket:
        """One bucket.

        Raises:
            NotFound: there is none of that name.
        """
        bucket = await self.find(by, name)
        if bucket is None:
            raise NotFound(f"There's no bucket named {name}")
        return bucket

    async def place(self, by: Principal, name: str) -> Place:
        """Where the bucket is.

        Raises:
            NotFound: there is none of that name.
        """
        known = self._remembered(by, name)
        return known or self._remember(by, await self.get(by, name))

    async def place_for(self, by: Principal, name: str, data: dict[str, Any]) -> Place:
        """Where an event goes: into the bucket, which is made from its name when there is none."""
        if known := self._remembered(by, name):
            return known
        bucket = await self.find(by, name)
        if bucket is None:
            body = BucketBody(
                type=guessed_type(name, data),
                client=guessed_client(name),
                hostname=guessed_host(name),
            )
            await self.put(by, name, body)
            bucket = await self.get(by, name)
        return self._remember(by, bucket)

    async def put(
        self, by: Principal, name: str, body: BucketBody, *, should_update: bool = False
    ) -> bool:
        """Makes a bucket on the device of its host; False when it was there.

        An existing one keeps its device, so that its events stay where they are.
        """
        hostname = LOCAL_HOST if body.hostname == LOCAL else body.hostname
        client_id = hostname[:MAX_DEVICE_ID_CHARACTERS] or LOCAL_HOST
        device_id = await self._usage.device(by, client_id, name=hostname, kind="computer")
        bucket = Bucket(
            name=name,
            device_id=str(device_id),
            type=body.type,
            client=body.client,
            hostname=hostname,
            data_json=msgspec.json.encode(body.data).decode() if body.data else "",
        )
        request = PutBucketRequest(bucket=bucket, should_update=should_update)
        answer = await self._ingest.put_bucket(by, request)
        self.forget(by, name)
        return answer.was_created

    async def delete(self, by: Principal, name: str) -> None:
        """Removes a bucket and its events.

        Raises:
            NotFound: there is none of that name.
        """
        await self._ingest.delete_bucket(by, DeleteBucketRequest(name=name))
        self.forget(by, name)

    def forget(self, by: Principal, name: str) -> None:
        """Looks it up again next time."""
        self._known.pop((by.org_id, by.user_id, name), None)

    def _remembered(self, by: Principal, name: str) -> Place | None:
        known = self._known.get((by.org_id, by.user_id, name))
        return known[0] if known and known[1] > self._clock.monotonic() else None

    def _remember(self, by: Principal, bucket: Bucket) -> Place:
        place = place_of(bucket)
        key = (by.org_id, by.user_id, bucket.name)
        self._known[key] = (place, self._clock.monotonic() + FRESH_SECONDS)
        self._known.move_to_end(key)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return place
