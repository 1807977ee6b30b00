"""Problems as the public interface says them (RFC 9457)."""

import msgspec


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """A field that is wrong, as the request spells it, and what would be right."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """`type` is stable; `title` and `detail` are for people."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError]
    trace_id: str
