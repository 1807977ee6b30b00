"""Who may run it: root, an ordinary user, and root where user namespaces are forbidden."""

import asyncio
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from deploy.embedded import ports, run_as
from deploy.embedded.child import RunAs
from deploy.embedded.errors import CannotRun
from deploy.embedded.folder import DataFolder
from deploy.embedded.keeper import Keeper
from deploy.embedded.postgres import Postgres
from deploy.embedded.wheels import REPOSITORY
from tests.support.servers import Runner, Stores

NOBODY = run_as.NOBODY
AS_NOBODY = (
    shutil.which("setpriv") or "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="timeloom-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def python_for_everybody() -> str:
    """An interpreter that uid 65534 can run with this environment's packages."""
    for python in (sys.executable, "/usr/bin/python3"):
        probe = (
            *AS_NOBODY,
            *("env", f"PYTHONPATH={REPOSITORY}:{sysconfig.get_path('purelib')}"),
            *(python, "-c", "import deploy.embedded.cli"),
        )
        if subprocess.run(probe, cwd="/", capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip("no interpreter and packages here that an ordinary user may read")


class OrdinaryUser(Runner):
    """The stores, run by uid 65534 from a root-owned tree."""

    command = "stores"
    python = sys.executable

    def command_line(self, command: str) -> tuple[str, ...]:
        # Changing user makes the kernel forget the tether, so setpriv ties it again.
        return (*AS_NOBODY, "--pdeathsig=TERM", self.python, "-m", "deploy.embedded", command)


@root_only
async def test_an_ordinary_user_runs_the_stores(open_folder: Path) -> None:
    python = python_for_everybody()
    data = open_folder / "data"
    data.mkdir()
    os.chown(data, NOBODY, NOBODY)
    packages = f"{REPOSITORY}:{sysconfig.get_path('purelib')}"
    runner = OrdinaryUser(data, environment={"PYTHONPATH": packages, "HOME": "/nonexistent"})
    runner.python = shutil.which(python) or python
    with runner:
        assert {owner(runner, name) for name in ("postgres", "nats", "valkey")} == {NOBODY}
        connection = await asyncpg.connect(runner.dsn("ingest"), ssl=False)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    assert {path.stat().st_uid for path in data.rglob("*")} == {NOBODY}


def owner(runner: Runner, name: str) -> int:
    return int(psutil.Process(runner.pid(name)).uids().real)


@root_only
def test_root_keeps_its_files_to_itself(servers: Stores) -> None:
    if run_as.choose() is not RunAs.NAMESPACE:
        pytest.skip("user namespaces are forbidden here")
    assert owner(servers, "postgres") == 0
    assert {path.stat().st_uid for path in servers.folder.root.rglob("*")} == {0}


@root_only
async def test_root_without_namespaces_runs_postgres_as_nobody(open_folder: Path) -> None:
    folder = DataFolder(open_folder / "data")
    with folder.claim():
        (port,) = ports.pick(1)
        postgres = Postgres(folder, "k123", port=port, runs_as=RunAs.NOBODY)
        said: list[str] = []
        keeper = Keeper(
            postgres.program(),
            postgres.is_ready,
            lambda _, sentence: said.append(sentence),
            hurry=asyncio.Event(),
            prepare=postgres.prepare,
        )
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
            keeper.start(tasks)
            await keeper.wait_ready()
            assert keeper.child is not None
            assert psutil.Process(keeper.child.pid).uids().real == NOBODY
            connection = await asyncpg.connect(postgres.dsn("postgres"), ssl=False)
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
            await keeper.stop()
        assert not said
        assert folder.secrets.stat().st_mode & 0o077 == 0


@pytest.fixture
def private_install(tmp_path: Path) -> Path:
    """An installation in a folder that only root may enter; its server does nothing."""
    tmp_path.chmod(0o700)
    server = tmp_path / "pginstall" / "bin" / "postgres"
    server.parent.mkdir(parents=True)
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    return tmp_path / "pginstall"


@root_only
def test_binaries_that_nobody_cannot_reach_are_copied(
    open_folder: Path, private_install: Path
) -> None:
    copy = run_as.install_for(RunAs.NOBODY, private_install, open_folder)
    assert copy == open_folder / "pginstall"
    assert run_as.can_run(RunAs.NOBODY, str(copy / "bin" / "postgres"))
    assert run_as.install_for(RunAs.SELF, private_install, open_folder) == private_install


@root_only
def test_a_data_folder_that_nobody_cannot_enter_is_refused(private_install: Path) -> None:
    data = private_install.parent / "data"
    data.mkdir()
    with pytest.raises(CannotRun, match="set TIMELOOM_DATA to a folder that everybody may enter"):
        run_as.install_for(RunAs.NOBODY, private_install, data)


def test_a_process_tied_to_a_parent_that_is_gone_does_not_start(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    tether = REPOSITORY / "deploy" / "embedded" / "tether.py"
    marker = tmp_path / "started"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(tether), str(gone.pid), "9", "self", "/bin/touch", marker],
        check=False,
    )
    assert done.returncode == 125
    assert not marker.exists()
