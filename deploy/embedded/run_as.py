"""Who PostgreSQL runs as. It refuses root, so root lends it a name.

An ordinary user runs it as itself. Root runs it in a user namespace, where files stay root's own
and private folders stay private. Where namespaces are forbidden (most containers), root runs it
as uid 65534, which then needs its own copy of the binaries and a way into the data folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from signal import SIGKILL

from deploy.embedded.child import TETHER, RunAs
from deploy.embedded.errors import CannotRun

NOBODY = 65534


def choose() -> RunAs:
    """The least intrusive way that works here."""
    if os.geteuid() != 0:
        return RunAs.SELF
    return RunAs.NAMESPACE if can_run(RunAs.NAMESPACE, "/bin/true") else RunAs.NOBODY


def can_run(run_as: RunAs, *command: str) -> bool:
    """Whether `command` starts and succeeds that way."""
    tether = (sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), str(int(SIGKILL)), run_as)
    done = subprocess.run((*tether, *command), capture_output=True, check=False, timeout=30)
    return done.returncode == 0


def install_for(run_as: RunAs, install: Path, data: Path) -> Path:
    """A PostgreSQL installation that `run_as` can run: `install`, or a copy of it under `data`.

    Raises:
        CannotRun: Uid 65534 may not enter the data folder.
    """
    if run_as is not RunAs.NOBODY:
        return install
    data.chmod(data.stat().st_mode | 0o011)
    if can_run(run_as, str(install / "bin" / "postgres"), "--version"):
        return install
    copy = data / "pginstall"
    if not copy.exists():
        part = data / "pginstall.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(install, part, symlinks=True)
        part.rename(copy)
    if not can_run(run_as, str(copy / "bin" / "postgres"), "--version"):
        raise CannotRun(
            f"PostgreSQL must not run as root here, and uid {NOBODY} may not enter {data}; "
            "start as an ordinary user, or set TIMELOOM_DATA to a folder that everybody may enter"
        )
    return copy
