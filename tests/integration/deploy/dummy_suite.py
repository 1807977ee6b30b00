"""``python -m deploy.embedded`` with three dummy services: for tests of the runner."""

import sys

from deploy.embedded.cli import main
from deploy.embedded.services import Service
from deploy.embedded.wheels import REPOSITORY


def dummy(name: str, *, database: str | None = None, valkey: bool = False) -> Service:
    return Service(
        name=name,
        argv=(sys.executable, "-m", "tests.integration.deploy.dummy_service", name),
        database=database,
        migrations=(REPOSITORY / "chassis" / "migrations",),
        uses_valkey=valkey,
        serves_public_http=name == "gateway",
    )


SERVICES = (
    dummy("ingest", database="timeloom_events"),
    dummy("realtime", valkey=True),
    dummy("gateway", database="timeloom_accounts"),
)

if __name__ == "__main__":
    sys.exit(main(services=SERVICES))
