"""Where everything listens in one run: ports, addresses, connection strings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.embedded import ports
from deploy.embedded.credentials import Credentials, load_or_create
from deploy.embedded.errors import CannotRun
from deploy.embedded.folder import DataFolder
from deploy.embedded.nats import Nats
from deploy.embedded.options import Options
from deploy.embedded.postgres import Postgres
from deploy.embedded.services import Ports, Service, Wiring, environment
from deploy.embedded.valkey import Valkey

STORE_PORTS = 4


@dataclass(frozen=True, kw_only=True)
class Layout:
    """`listening` are the ports of each service.

    `public_listen` is where the gateway listens; `reach` is the host under which the runner itself
    finds it.
    """

    credentials: Credentials
    postgres: Postgres
    nats: Nats
    valkey: Valkey
    listening: Mapping[str, Ports]
    public_listen: str
    reach: str
    public_port: int

    @property
    def url(self) -> str:
        return f"http://{bracketed(self.reach)}:{self.public_port}"

    def addresses(self) -> dict[str, object]:
        """Every port by name, as run.json shows them; no secrets."""
        return {
            "postgres": self.postgres.port,
            "nats": self.nats.port,
            "nats_monitor": self.nats.monitor_port,
            "valkey": self.valkey.port,
            "services": {
                name: {"grpc": own.grpc, "health": own.health}
                for name, own in self.listening.items()
            },
        }

    def dsn(self, service: Service) -> str:
        """The connection string of a service's own database; empty when it has none."""
        if service.database is None:
            return ""
        password = self.credentials.postgres[service.name]
        return self.postgres.dsn(service.database, service.name, password)

    def environment(self, service: Service) -> dict[str, str]:
        """What `service` reads to find everything of this run."""
        wiring = Wiring(
            credentials=self.credentials,
            public_listen=self.public_listen,
            ports=self.listening,
            database=self.dsn(service),
            nats_url=self.nats.url,
            valkey_url=self.valkey.url,
        )
        return environment(service, wiring)


def lay_out(folder: DataFolder, options: Options, services: Sequence[Service]) -> Layout:
    """Choose every port of a run in `folder`, which the caller has claimed.

    Raises:
        CannotRun: The public port is taken, or a wheel is missing.
    """
    public = public_port(options, taken_matters=bool(services))
    # One more than needed, in case the public port is among them.
    picked = ports.pick(STORE_PORTS + 2 * len(services) + 1)
    free = iter(port for port in picked if port != public)
    credentials = load_or_create(folder.secrets)
    return Layout(
        credentials=credentials,
        postgres=Postgres(
            folder,
            credentials.postgres["postgres"],
            port=next(free),
            options=options.postgres_options,
        ),
        nats=Nats(folder, credentials.nats, port=next(free), monitor_port=next(free)),
        valkey=Valkey(folder, credentials.valkey, port=next(free)),
        listening={
            service.name: Ports(next(free), public if service.serves_public_http else next(free))
            for service in services
        },
        public_listen=f"{bracketed(options.host)}:{public}",
        reach=reachable(options.host),
        public_port=public,
    )


def public_port(options: Options, *, taken_matters: bool) -> int:
    """The chosen port, or a free one. Raises CannotRun when it is taken and that matters."""
    port = options.port or ports.pick(1)[0]
    if taken_matters and not ports.is_free(options.host, port):
        raise CannotRun(
            f"port {port} on {options.host} is in use; choose another one with TIMELOOM_PORT, "
            f"for example: make up TIMELOOM_PORT={port + 1}"
        )
    return port


def reachable(host: str) -> str:
    """An address of this machine that answers for `host`, which may mean "every address"."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def bracketed(host: str) -> str:
    """`host` as it stands before a port."""
    return f"[{host}]" if ":" in host else host
