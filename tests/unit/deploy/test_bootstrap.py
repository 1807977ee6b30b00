"""`make setup` before it reaches any package index: what it refuses, and when it does nothing."""

import shutil
import subprocess
import sys
from pathlib import Path
from venv import EnvBuilder

import pytest

from deploy.embedded.wheels import REPOSITORY


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    for name in ("requirements.lock", "tools/bootstrap.lock", "tools/bootstrap.sh"):
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    return tmp_path


def setup(tree: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "tools/bootstrap.sh"],
        cwd=tree,
        # Whatever the script does, it reaches no package index from here.
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tree),
            "PYTHON": python,
            "PIP_NO_INDEX": "1",
            "PIP_REQUIRE_VIRTUALENV": "1",
            "UV_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_older_python_is_refused_with_what_to_install(tree: Path) -> None:
    old = script(tree / "python-old", 'test "$1" = -V && echo "Python 3.9.2" || exit 1')
    done = setup(tree, old)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer and found Python 3.9.2" in done.stderr
    assert "apt install python3.11 python3.11-venv" in done.stderr
    assert not (tree / ".venv").exists()


def test_no_python_at_all_is_refused(tree: Path) -> None:
    done = setup(tree, "no-such-python")
    assert done.returncode == 1
    assert "found no no-such-python" in done.stderr


def test_a_python_without_venv_is_refused_with_the_debian_package(tree: Path) -> None:
    crippled = script(
        tree / "python-crippled",
        f'case "$*" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"',
    )
    done = setup(tree, crippled)
    assert done.returncode == 1
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt install python{minor}-venv" in done.stderr


def make_venv(tree: Path) -> None:
    """An environment that says it was made from the tree's lock files; without pip."""
    EnvBuilder(with_pip=False, symlinks=True).create(tree / ".venv")
    parts = ("requirements.lock", "tools/bootstrap.lock", "tools/bootstrap.sh")
    stamp = f"{tree.resolve()}\n" + "".join((tree / part).read_text() for part in parts)
    (tree / ".venv" / "timeloom-setup").write_text(stamp)


def test_an_environment_that_matches_is_left_alone(tree: Path) -> None:
    make_venv(tree)
    done = setup(tree, "no-such-python")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_changed_lock_makes_it_start_again(tree: Path) -> None:
    make_venv(tree)
    with (tree / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    done = setup(tree, "no-such-python")
    assert "found no no-such-python" in done.stderr


def test_an_environment_that_was_moved_is_made_again(tree: Path, tmp_path: Path) -> None:
    make_venv(tree)
    moved = tmp_path / "moved"
    moved.mkdir()
    for part in (".venv", "tools", "requirements.lock"):
        (tree / part).rename(moved / part)
    assert "found no no-such-python" in setup(moved, "no-such-python").stderr


def test_an_interpreter_that_is_no_environment_is_never_installed_into(tree: Path) -> None:
    make_venv(tree)
    (tree / ".venv" / "pyvenv.cfg").unlink()
    assert "found no no-such-python" in setup(tree, "no-such-python").stderr


@pytest.mark.parametrize("name", ["requirements.lock", "tools/bootstrap.lock", ".npmrc"])
def test_lock_files_name_no_host(name: str) -> None:
    assert "://" not in (REPOSITORY / name).read_text()


def test_the_installer_is_the_one_that_the_lock_names() -> None:
    lines = (REPOSITORY / "tools" / "bootstrap.lock").read_text().splitlines()
    pinned = [line.split()[0] for line in lines if "==" in line]
    locked = (REPOSITORY / "requirements.lock").read_text().splitlines()
    assert all(any(line.startswith(f"{pin} ") for line in locked) for pin in pinned)
