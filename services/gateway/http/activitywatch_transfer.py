"""Taking ActivityWatch's buckets in and out whole, in the format of its export files."""

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from litestar import MediaType, get, post
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream

from chassis.errors import Invalid
from chassis.identity import Principal
from protos.ingest.v1.ingest_pb2 import Bucket
from services.gateway.activitywatch_events import exported_event, shown_bucket
from services.gateway.buckets import place_of
from services.gateway.http.activitywatch_access import BULK_SECONDS, ActivityWatch, elements
from services.gateway.http.request import StrictRequest
from services.gateway.payloads.activitywatch import (
    BucketBody,
    ImportBody,
    ImportedBucket,
    ReportedEvent,
    checked_event,
    decode_leniently,
    parse_bucket_name,
)

# A month of one person's export; larger ones come bucket by bucket.
IMPORT_LIMIT_BYTES: Final = 32 * 1024 * 1024


@get("/export")
async def export_all(request: StrictRequest, aw: NamedDependency[ActivityWatch]) -> Stream:
    """Gives all buckets with all events."""
    by = await aw.reader(request)
    buckets = await aw.buckets.all_of(by)
    return _download(_file(aw, by, buckets), "aw-buckets-export.json")


@get("/buckets/{bucket:str}/export")
async def export_bucket(
    bucket: FromPath[str], request: StrictRequest, aw: NamedDependency[ActivityWatch]
) -> Stream:
    """Gives one bucket with all events."""
    by = await aw.reader(request)
    found = await aw.buckets.get(by, bucket)
    return _download(_file(aw, by, [found]), f"aw-bucket-export_{bucket}.json")


def _download(content: AsyncIterator[bytes], name: str) -> Stream:
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return Stream(
        content,
        media_type=MediaType.JSON,
        headers={"content-disposition": f"attachment; filename={plain}"},
    )


async def _file(aw: ActivityWatch, by: Principal, buckets: list[Bucket]) -> AsyncIterator[bytes]:
    yield b'{"buckets":{'
    for number, bucket in enumerate(buckets):
        comma = b"," if number else b""
        head = msgspec.json.encode(shown_bucket(bucket))
        yield comma + msgspec.json.encode(bucket.name) + b":" + head[:-1] + b',"events":['
        comma = b""
        async for page in aw.events.pages(by, place_of(bucket), None, limit=None):
            if page:
                yield comma + elements([exported_event(event) for event in page])
                comma = b","
        yield b"]}"
    yield b"}}"


@post("/import", status_code=200, request_max_body_size=IMPORT_LIMIT_BYTES)
async def import_buckets(
    request: StrictRequest, aw: NamedDependency[ActivityWatch]
) -> dict[str, Any] | None:
    """Takes in an export file, as JSON or as an upload; what is known already stays as it is.

    What can't be kept is left out and counted, by bucket.
    """
    body: ImportBody = decode_leniently(await _uploaded(request), ImportBody)

    async def work(by: Principal) -> dict[str, int]:
        rejected = {}
        for name, bucket in body.buckets.items():
            if count := await _import_bucket(aw, by, parse_bucket_name(name), bucket):
                rejected[name] = count
        return rejected

    rejected = await aw.write(request, work, try_seconds=BULK_SECONDS)
    return {"message": "Some events were rejected", "rejected": rejected} if rejected else None


async def _import_bucket(
    aw: ActivityWatch, by: Principal, name: str, bucket: ImportedBucket
) -> int:
    described = BucketBody(
        type=bucket.type, client=bucket.client, hostname=bucket.hostname, data=bucket.data or {}
    )
    await aw.buckets.put(by, name, described)
    place = await aw.buckets.place(by, name)
    checked = [checked_event(item) for item in bucket.events]
    # Ids of another server mean nothing here; what an event says makes it the same.
    good = [event for event in checked if isinstance(event, ReportedEvent)]
    outcome = await aw.events.keep(by, place, good)
    return len(checked) - len(good) + sum(error is not None for error in outcome)


async def _uploaded(request: StrictRequest) -> bytes:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    form = await request.form()
    for part in form.values():
        if isinstance(part, UploadFile):
            return await part.read()
        if isinstance(part, str):
            return part.encode()
    raise Invalid("The form holds no file")


HANDLERS: Final[list[HTTPRouteHandler]] = [export_all, export_bucket, import_buckets]
