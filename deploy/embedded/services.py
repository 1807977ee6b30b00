"""The five services and the environment that each one gets."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.embedded.credentials import Credentials
from deploy.embedded.wheels import REPOSITORY

# A service drains for 20 s by default; this leaves it time to close what is left.
GRACE_SECONDS = 25.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """One process of ours. `database` is None when it keeps nothing in PostgreSQL.

    `argv` runs it from the repository; `migrations` are the folders that make its tables.
    """

    name: str
    argv: tuple[str, ...]
    database: str | None = None
    migrations: tuple[Path, ...] = ()
    uses_valkey: bool = False
    serves_public_http: bool = False


def service(
    name: str, *, database: str | None = None, uses_valkey: bool = False, public: bool = False
) -> Service:
    """The service in services/`name`."""
    return Service(
        name=name,
        argv=(sys.executable, "-m", f"services.{name}"),
        database=database,
        migrations=(
            REPOSITORY / "chassis" / "migrations",
            REPOSITORY / "services" / name / "migrations",
        ),
        uses_valkey=uses_valkey,
        serves_public_http=public,
    )


SERVICES = (
    service("ingest", database="timeloom_events"),
    service("sessions", database="timeloom_work"),
    service("scheduler", database="timeloom_schedules"),
    service("realtime", uses_valkey=True),
    service("gateway", database="timeloom_accounts", public=True),
)


@dataclass(frozen=True)
class Ports:
    """Where one service listens; `health` is the public port for the one that serves it."""

    grpc: int
    health: int


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What an environment is made of. `database` is the service's own connection string."""

    credentials: Credentials
    public_listen: str
    ports: Mapping[str, Ports]
    database: str = field(repr=False)
    nats_url: str
    valkey_url: str = field(repr=False)


def environment(service: Service, wiring: Wiring) -> dict[str, str]:
    """What `service` reads; settings that are missing here keep their defaults."""
    ports = wiring.ports[service.name]
    values = {
        "NATS_URL": wiring.nats_url,
        "NATS_USER": service.name,
        "NATS_PASSWORD": wiring.credentials.nats[service.name],
        "TOKEN_PUBLIC_KEY_FILE": str(wiring.credentials.token_public_key),
    }
    if service.database is not None:
        values["POSTGRES_DSN"] = wiring.database
    if service.uses_valkey:
        values["VALKEY_URL"] = wiring.valkey_url
    if service.serves_public_http:
        values["LISTEN"] = wiring.public_listen
        values["TOKEN_PRIVATE_KEY_FILE"] = str(wiring.credentials.token_private_key)
        for name, other in wiring.ports.items():
            if name != service.name:
                values[f"{name.upper()}_TARGET"] = f"127.0.0.1:{other.grpc}"
    else:
        values["GRPC_LISTEN"] = f"127.0.0.1:{ports.grpc}"
        values["HEALTH_LISTEN"] = f"127.0.0.1:{ports.health}"
    return {f"{service.name.upper()}_{key}": value for key, value in values.items()}
