"""ActivityWatch's REST interface under /api/0, for its unmodified clients.

A valid heartbeat is never refused: while something is away or a limit is reached it is held,
since aw-client 0.5.15 loses whatever gets an error. Making a bucket may be refused; that is the one
request its clients repeat, keeping what they have queued.
"""

from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from chassis.errors import Invalid
from chassis.identity import Principal
from protos.ingest.v1.ingest_pb2 import StoredEvent
from services.gateway.activitywatch_events import is_incognito, shown_bucket, shown_event
from services.gateway.http.activitywatch_access import BULK_SECONDS, ActivityWatch, array
from services.gateway.http.request import StrictRequest
from services.gateway.payloads.activitywatch import (
    BucketBody,
    ShownBucket,
    ShownEvent,
    decode_leniently,
    parse_bucket_name,
    parse_event,
    parse_events,
    parse_limit,
    parse_pulsetime,
    parse_stretch,
)

# The server whose interface this is; clients look at the major number at most.
VERSION: Final = "v0.13.2"
DELETE_NEEDS_FORCE: Final = "Deleting buckets is only permitted with ?force=1"


@get("/info", security=[{}], sync_to_thread=False)
def info(request: StrictRequest) -> dict[str, Any]:
    """Says what kind of server this is."""
    host = request.headers.get("host", "timeloom")
    return {
        "hostname": "timeloom",
        "version": VERSION,
        "testing": False,
        "device_id": str(uuid5(NAMESPACE_URL, f"timeloom:{host}")),
    }


@get("/buckets")
async def list_buckets(
    request: StrictRequest, aw: NamedDependency[ActivityWatch]
) -> dict[str, ShownBucket]:
    """Lists your buckets by id."""
    by = await aw.reader(request)
    return {bucket.name: shown_bucket(bucket) for bucket in await aw.buckets.all_of(by)}


@get("/buckets/{bucket:str}")
async def get_bucket(
    bucket: FromPath[str], request: StrictRequest, aw: NamedDependency[ActivityWatch]
) -> ShownBucket:
    """Gives one bucket."""
    by = await aw.reader(request)
    return shown_bucket(await aw.buckets.get(by, bucket))


@post("/buckets/{bucket:str}", status_code=200)
async def create_bucket(
    bucket: FromPath[str], request: StrictRequest, aw: NamedDependency[ActivityWatch]
) -> Response[dict[str, str] | None]:
    """Makes a bucket; 304 when it is there already, which is no error to any client."""
    name = parse_bucket_name(bucket)
    body: BucketBody = decode_leniently(await request.body(), BucketBody)

    async def work(by: Principal) -> bool:
        return await aw.buckets.put(by, name, body)

    was_created = await aw.write(request, work)
    return Response({}) if was_created else Response(None, status_code=304)


@put("/buckets/{bucket:str}")
async def update_bucket(
    bucket: FromPath[str], request: StrictRequest, aw: NamedDependency[ActivityWatch]
) -> dict[str, str]:
    """Changes what is said about a bucket."""
    body: BucketBody = decode_leniently(await request.body(), BucketBody)

    async def work(by: Principal) -> None:
        await aw.buckets.get(by, bucket)
        await aw.buckets.put(by, bucket, body, should_update=True)

    await aw.write(request, work)
    return {}


@delete("/buckets/{bucket:str}", status_code=200)
async def delete_bucket(
    bucket: FromPath[str],
    request: StrictRequest,
    aw: NamedDependency[ActivityWatch],
    force: FromQuery[str] = "",
) -> Response[dict[str, str]]:
    """Removes a bucket and its events, with `?force=1`."""
    if force != "1":
        return Response({"message": DELETE_NEEDS_FORCE}, status_code=401)

    async def work(by: Principal) -> None:
        await aw.buckets.get(by, bucket)
        await aw.buckets.delete(by, bucket)

    await aw.write(request, work)
    return Response({})


@post("/buckets/{bucket:str}/heartbeat", status_code=200)
async def heartbeat(
    bucket: FromPath[str],
    request: StrictRequest,
    aw: NamedDependency[ActivityWatch],
    pulsetime: FromQuery[str | None] = None,
) -> ShownEvent:
    """Merges a heartbeat into the event before it, or keeps it as a new one; gives that event."""
    name = parse_bucket_name(bucket)
    pulsetime_us = parse_pulsetime(pulsetime)
    event = parse_event(await request.body())

    async def work(by: Principal) -> StoredEvent:
        return await aw.events.heartbeat(by, name, event, pulsetime_us)

    shown = shown_event(await aw.write(request, work, as_long_as_it_takes=True))
    return shown.saying(event.data) if is_incognito(event.data) else shown


@get("/buckets/{bucket:str}/events")
async def list_events(
    bucket: FromPath[str],
    request: StrictRequest,
    aw: NamedDependency[ActivityWatch],
    limit: FromQuery[str | None] = None,
    start: FromQuery[str | None] = None,
    end: FromQuery[str | None] = None,
) -> Response[Any]:
    """Lists events that overlap [start, end], newest first and clipped to it."""
    most, stretch = parse_limit(limit), parse_stretch(start, end)
    by = await aw.reader(request)
    place = await aw.buckets.place(by, bucket)
    pages = aw.events.pages(by, place, stretch, limit=most)
    return await array([shown_event(event, stretch) for event in page] async for page in pages)


@post("/buckets/{bucket:str}/events", status_code=200)
async def insert_events(
    bucket: FromPath[str], request: StrictRequest, aw: NamedDependency[ActivityWatch]
) -> dict[str, Any] | None:
    """Keeps one event or an array; those with an id replace the event of that id.

    What is wrong among them is left out and named, at its place in the array.
    """
    events = parse_events(await request.body())

    async def work(by: Principal) -> dict[int, str]:
        return await aw.events.insert(by, bucket, events)

    wrong = await aw.write(request, work, try_seconds=BULK_SECONDS)
    if wrong and len(wrong) == len(events):
        raise Invalid(next(iter(wrong.values())))
    rejected = [{"index": index, "message": message} for index, message in wrong.items()]
    return {"message": "Some events were rejected", "rejected": rejected} if rejected else None


@get("/buckets/{bucket:str}/events/count")
async def count_events(
    bucket: FromPath[str],
    request: StrictRequest,
    aw: NamedDependency[ActivityWatch],
    start: FromQuery[str | None] = None,
    end: FromQuery[str | None] = None,
) -> int:
    """Counts events that overlap [start, end]."""
    stretch = parse_stretch(start, end)
    by = await aw.reader(request)
    return await aw.events.count(by, await aw.buckets.place(by, bucket), stretch)


@get("/buckets/{bucket:str}/events/{event_id:int}")
async def get_event(
    bucket: FromPath[str],
    event_id: FromPath[int],
    request: StrictRequest,
    aw: NamedDependency[ActivityWatch],
) -> Response[ShownEvent | None]:
    """Gives one event."""
    by = await aw.reader(request)
    event = await aw.events.find(by, await aw.buckets.place(by, bucket), event_id)
    return Response(shown_event(event) if event else None, status_code=200 if event else 404)


@delete("/buckets/{bucket:str}/events/{event_id:int}", status_code=200)
async def delete_event(
    bucket: FromPath[str],
    event_id: FromPath[int],
    request: StrictRequest,
    aw: NamedDependency[ActivityWatch],
) -> dict[str, bool]:
    """Removes one event; says whether there was one."""

    async def work(by: Principal) -> bool:
        return await aw.events.delete(by, await aw.buckets.place(by, bucket), event_id)

    return {"success": await aw.write(request, work)}


HANDLERS: Final[list[HTTPRouteHandler]] = [
    info,
    list_buckets,
    get_bucket,
    create_bucket,
    update_bucket,
    delete_bucket,
    heartbeat,
    list_events,
    insert_events,
    count_events,
    get_event,
    delete_event,
]
