"""Prints every setting with its default and meaning: `python -m tools.settings`.

Settings that services share are printed once; a service that gives one another default or meaning
prints it again.
"""

import importlib
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from chassis.settings import GrpcSettings, PostgresSettings, ServiceSettings

SERVICES: Final = ("gateway", "ingest", "sessions", "scheduler", "realtime")
SHARED: Final[dict[str, tuple[type[BaseSettings], tuple[str, ...]]]] = {
    "Every service": (ServiceSettings, SERVICES),
    "Those with a database": (PostgresSettings, ("gateway", "ingest", "sessions", "scheduler")),
    "Those that talk gRPC": (GrpcSettings, SERVICES),
}
# Standard names that OpenTelemetry reads itself.
OTHERS: Final = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "OTLP/HTTP collector of traces; unset sends none",
}
WIDEST: Final = 100


def settings_of(service: str) -> type[ServiceSettings]:
    """The settings class of a service."""
    module = importlib.import_module(f"services.{service}.settings")
    found: type[ServiceSettings] = module.Settings
    return found


def shared() -> dict[str, FieldInfo]:
    """The settings that services inherit."""
    return {
        name: field for group, _ in SHARED.values() for name, field in group.model_fields.items()
    }


def own(service: str) -> dict[str, FieldInfo]:
    """What a service adds, or says differently."""
    inherited = shared()
    return {
        name: field
        for name, field in settings_of(service).model_fields.items()
        if name not in inherited or _says(field) != _says(inherited[name])
    }


def _says(field: FieldInfo) -> tuple[str, str]:
    return default(field), field.description or ""


def default(field: FieldInfo) -> str:
    """The default as one would write it in the environment; `-` for none or empty."""
    value = field.get_default()
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Path):
        value = str(value)
    return "-" if value in {None, ""} else str(value)


def lines(width: int) -> Iterator[str]:
    """The whole list, at most `width` characters a line where words allow."""
    for title, (group, services) in SHARED.items():
        yield f"{title}: {', '.join(f'{one.upper()}_…' for one in services)}"
        yield from _table("…_", group.model_fields, width)
    for service in SERVICES:
        yield service
        yield from _table(f"{service.upper()}_", own(service), width)
    yield "Read by OpenTelemetry"
    for name, meaning in OTHERS.items():
        yield from _entry(name, "-", meaning, width)


def _table(prefix: str, fields: Mapping[str, FieldInfo], width: int) -> Iterator[str]:
    for name, field in fields.items():
        yield from _entry(prefix + name.upper(), default(field), field.description or "", width)
    yield ""


def _entry(name: str, value: str, meaning: str, width: int) -> Iterator[str]:
    yield f"  {name} = {value}"
    yield from textwrap.wrap(
        meaning, width, initial_indent="      ", subsequent_indent="      ", break_long_words=False
    )


def main() -> int:
    """Prints the list."""
    width = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    for line in lines(width):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
