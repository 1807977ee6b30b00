"""Buckets as ActivityWatch knows them, and what may be said in one."""

from typing import Final, NamedTuple
from uuid import UUID

from chassis.errors import Invalid
from services.ingest.domain.documents import canonical

MAX_BUCKETS: Final = 1000
MAX_SOURCE_CHARACTERS: Final = 200
MAX_FIELD_CHARACTERS: Final = 200
MAX_DATA_CHARACTERS: Final = 65_536


class Bucket(NamedTuple):
    """One source on one device; `name` is its source and unique for the person."""

    name: str
    device_id: UUID
    type: str
    client: str
    hostname: str
    data: str
    """A JSON object in canonical form."""
    created_us: int
    last_updated_us: int = 0
    """End of its newest event; 0 when it has none."""


def checked_source(source: str, field: str = "source") -> str:
    """Raises Invalid unless it is a name of 1 to 200 characters, none of them NUL."""
    if not 1 <= len(source) <= MAX_SOURCE_CHARACTERS:
        raise Invalid.field(field, f"must have 1 to {MAX_SOURCE_CHARACTERS} characters")
    if "\0" in source:
        raise Invalid.field(field, "holds a NUL character")
    return source


def checked_bucket(bucket: Bucket) -> Bucket:
    """The bucket with its data in canonical form.

    Raises:
        Invalid: names the field that is too long, holds NUL, or is no JSON object.
    """
    checked_source(bucket.name, "name")
    for field in ("type", "client", "hostname"):
        text = getattr(bucket, field)
        if len(text) > MAX_FIELD_CHARACTERS:
            raise Invalid.field(field, f"has more than {MAX_FIELD_CHARACTERS} characters")
        if "\0" in text:
            raise Invalid.field(field, "holds a NUL character")
    if len(bucket.data) > MAX_DATA_CHARACTERS:
        raise Invalid.field("data", f"has more than {MAX_DATA_CHARACTERS} characters")
    try:
        return bucket._replace(data=canonical(bucket.data))
    except ValueError as error:
        raise Invalid.field("data", f"is not a JSON object that can be kept: {error}") from error
