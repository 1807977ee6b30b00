"""The contracts: commented, linted, compatible, and the stubs are what protoc makes of them."""

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, files, is_generated, text
from tools import breaking, protos


def test_the_stubs_are_what_protoc_makes_of_the_sources(tmp_path: Path) -> None:
    assert protos.generate(tmp_path) == 0
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    committed = {path: text(path) for path in files() if is_generated(path)}
    assert set(made) == set(committed), "run: make protos"
    stale = [str(path) for path in made if made[path] != committed[path]]
    assert not stale, "run: make protos"


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    scripts = Path(sysconfig.get_path("scripts"))
    return subprocess.run(
        [scripts / "buf", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_buf_finds_nothing_to_say() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contracts_keep_what_was_promised() -> None:
    done = breaking.compare(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


SAMPLE = """
// A sample.
syntax = "proto3";
package timeloom.sample.v1;
// A thing.
message Thing {{
  // Its name.
  string name = {number};
}}
"""


@pytest.mark.parametrize(("number", "is_fine"), [(1, True), (2, False)])
def test_a_renumbered_field_would_be_found(tmp_path: Path, number: int, *, is_fine: bool) -> None:
    git = breaking.git(tmp_path)
    folder = tmp_path / "protos" / "sample" / "v1"
    folder.mkdir(parents=True)
    (tmp_path / "buf.yaml").write_text(text(Path("buf.yaml")))
    (folder / "thing.proto").write_text(SAMPLE.format(number=1))
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("config", "user.name", "test")
    git("config", "user.email", "test@localhost")
    git("-c", "commit.gpgsign=false", "commit", "-q", "--no-verify", "-m", "one")
    assert breaking.promise(tmp_path), "the commit was made"
    (folder / "thing.proto").write_text(SAMPLE.format(number=number))
    done = breaking.compare(tmp_path)
    assert (done.returncode == 0) is is_fine, done.stdout + done.stderr


def test_every_service_contract_is_versioned_by_its_folder() -> None:
    for path in files():
        if path.suffix == ".proto":
            area, version = path.parts[1:3]
            assert f"package timeloom.{area}.{version};" in text(path), path
