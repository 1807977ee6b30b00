"""valkey-server as a cache, configured by deploy/valkey/valkey.conf."""

import os

from deploy.embedded import probe, wheels
from deploy.embedded.child import Program
from deploy.embedded.folder import DataFolder, write_private

CONFIGURATION = wheels.REPOSITORY / "deploy" / "valkey" / "valkey.conf"


class Valkey:
    """One valkey-server on loopback; its folder stays empty, nothing is kept over a restart."""

    def __init__(self, folder: DataFolder, password: str, *, port: int) -> None:
        self.port = port
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        self._folder = folder.root / "valkey"
        self._log = folder.log("valkey")
        self._password = password

    def program(self) -> Program:
        """Raises CannotRun when the wheel is not installed."""
        return Program(
            name="valkey",
            argv=(str(wheels.valkey_server()), str(self._folder / "valkey.conf")),
            env={"PATH": os.defpath, "LC_ALL": "C"},
            log=self._log,
            cwd=self._folder.parent,
            grace_seconds=5.0,
        )

    async def prepare(self) -> None:
        """Write the configuration: a password on the command line would show in every `ps`."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_private(
            self._folder / "valkey.conf",
            f"include {quoted(str(CONFIGURATION))}\n"
            f"bind 127.0.0.1\nport {self.port}\n"
            f"dir {quoted(str(self._folder))}\n"
            f"requirepass {self._password}\n",
        )

    async def is_ready(self) -> bool:
        """Whether it takes the password and answers."""
        hello = f"AUTH {self._password}\r\nPING\r\n".encode()
        return b"+PONG" in await probe.exchange(self.port, hello, 64)


def quoted(text: str) -> str:
    """`text` as one argument of valkey.conf, whatever characters it has."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
