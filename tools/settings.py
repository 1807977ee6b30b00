"""Prints every setting with its default and meaning: `make settings`."""

import importlib
import sys
from collections.abc import Iterator

from pydantic_settings import BaseSettings
from rich.console import Console
from rich.table import Table

from deploy.embedded.services import SERVICES


def rows(settings: type[BaseSettings]) -> Iterator[tuple[str, str, str]]:
    """(variable, default, meaning) of each field, in the order the class declares them."""
    prefix = settings.model_config.get("env_prefix", "")
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        yield f"{prefix}{name}".upper(), str(default), field.description or ""


def main() -> int:
    """One table for each service; wide enough for a pipe, cut to the screen on a terminal."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    for service in SERVICES:
        module = importlib.import_module(f"services.{service.name}.settings")
        table = Table("variable", "default", "meaning", title=service.name, expand=False)
        for row in rows(module.Settings):
            table.add_row(*row)
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
