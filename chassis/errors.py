"""The six ways a request can fail. Kinds carry no transport codes; each transport maps them once.

AppError
├── Invalid      the caller can mend the request; names the field
├── NotFound     no such thing for this caller (another organization's ids included)
├── Conflict     the state does not allow it
├── Forbidden    known caller, not entitled
├── Exhausted    a limit was reached; may say when to come back
└── Unavailable  nothing was done; trying again may help
Anything else is a bug: users see "internal" and nothing more.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class Violation(NamedTuple):
    """One field that is wrong: its public path (`events[3].start`) and what would be right."""

    field: str
    message: str


class AppError(Exception):
    """Something a caller can understand; `str()` of it is safe to show."""

    kind: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str = "",
        *,
        violations: Sequence[Violation] = (),
        retry_after_seconds: float = 0.0,
    ) -> None:
        """Without a message the class docstring is the message."""
        super().__init__(message or (self.__doc__ or "").splitlines()[0])
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds


class Invalid(AppError):
    """The request can't be accepted as it is."""

    kind = "invalid"

    @classmethod
    def field(cls, field: str, message: str) -> "Invalid":
        """One wrong field."""
        return cls(f"{field}: {message}", violations=[Violation(field, message)])


class NotFound(AppError):
    """There is no such thing."""

    kind = "not_found"


class Conflict(AppError):
    """The current state does not allow it."""

    kind = "conflict"


class Forbidden(AppError):
    """The caller is not entitled to this."""

    kind = "forbidden"


class Exhausted(AppError):
    """A limit was reached."""

    kind = "exhausted"


class Unavailable(AppError):
    """Something this depends on did not answer; nothing was changed."""

    kind = "unavailable"


KINDS: dict[str, type[AppError]] = {
    cls.kind: cls for cls in (Invalid, NotFound, Conflict, Forbidden, Exhausted, Unavailable)
}
