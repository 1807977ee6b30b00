"""nats-server with JetStream, configured by deploy/nats/nats.conf."""

import os
from collections.abc import Mapping

from deploy.embedded import probe, wheels
from deploy.embedded.child import Program
from deploy.embedded.folder import DataFolder

CONFIGURATION = wheels.REPOSITORY / "deploy" / "nats" / "nats.conf"


class Nats:
    """One nats-server on loopback. `passwords` maps each user of nats.conf to its password."""

    def __init__(
        self, folder: DataFolder, passwords: Mapping[str, str], *, port: int, monitor_port: int
    ) -> None:
        self.port = port
        self.monitor_port = monitor_port
        self.url = f"nats://127.0.0.1:{port}"
        self._folder = folder
        self._passwords = passwords

    def program(self) -> Program:
        """Raises CannotRun when the wheel is not installed."""
        return Program(
            name="nats",
            argv=(str(wheels.nats_server()), "-c", str(CONFIGURATION)),
            env=self._environment(),
            log=self._folder.log("nats"),
            cwd=self._folder.root,
            grace_seconds=10.0,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "NATS_SERVER_NAME": "timeloom",
            "NATS_LISTEN": f'"127.0.0.1:{self.port}"',
            "NATS_MONITOR": f'"127.0.0.1:{self.monitor_port}"',
            "NATS_STORE_DIR": quoted(str(self._folder.root / "nats")),
            **{f"NATS_{user.upper()}_PASSWORD": word for user, word in self._passwords.items()},
        }

    async def is_ready(self) -> bool:
        """Whether it answers, JetStream included."""
        return await probe.http_status(self.monitor_port, "/healthz") == 200


def quoted(text: str) -> str:
    """`text` as a string of the configuration language, whatever characters it has."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
