"""The data folder: claimed by one, refused when it is somebody else's."""

import json
import os
from pathlib import Path

import pytest

from deploy.embedded.errors import CannotRun, InUse
from deploy.embedded.folder import DataFolder, write_private


def test_a_new_folder_is_made_and_kept_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "deep" / "data")
    with folder.claim():
        assert folder.holder() == os.getpid()
        assert folder.root.stat().st_mode & 0o077 == 0
        assert folder.secrets.stat().st_mode & 0o077 == 0
    assert folder.holder() is None


def test_a_folder_that_is_held_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    with folder.claim():
        with pytest.raises(InUse, match=r"another Timeloom is using .*data \(pid") as refusal:
            DataFolder(folder.root).claim().__enter__()
        assert refusal.value.pid == os.getpid()
    with DataFolder(folder.root).claim():
        assert folder.holder() == os.getpid()


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(CannotRun, match="holds other files"):
        DataFolder(tmp_path).claim().__enter__()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    with folder.claim():
        pass
    folder.marker.write_text(json.dumps({"format": 99}))
    with pytest.raises(CannotRun, match="another version"):
        folder.claim().__enter__()


def test_a_folder_that_cannot_be_made_is_refused_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotRun, match="TIMELOOM_DATA"):
        DataFolder(tmp_path / "file" / "data").claim().__enter__()


def test_a_record_that_is_missing_or_torn_reads_as_empty(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert folder.read_record() == {}
    folder.record.write_text('{"pid": 1')
    assert folder.read_record() == {}
    folder.write_record({"pid": 7})
    assert folder.read_record() == {"pid": 7}


def test_private_files_replace_whole_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
