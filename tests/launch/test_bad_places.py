"""Places that nothing can be written to, and a cache that was damaged, behind a real command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.shared_data import REPOSITORY
from tests.shared_folder import Folder, plan, refused, run
from trainer.exit_codes import USER_FAULT
from trainer.preparing import prepare


@pytest.mark.parametrize("below", ["", "/run", "/a/b"])
def test_output_dir_that_is_a_file_or_below_one(
    folder: Folder, capsys: pytest.CaptureFixture[str], below: str
) -> None:
    file = folder.root / "file"
    file.write_text("")
    folder.overrides = [f"output_dir={file}{below}"]
    (line,) = refused(folder, capsys)
    assert line.startswith(f"output_dir: {file}{below}")
    assert f"{file} is a file; it must be a folder" in line
    assert line.endswith("Set output_dir=...")
    assert file.read_text() == ""


def test_output_dir_that_is_read_only(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # root may write anywhere: what the system says is put in its mouth
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != folder.root)
    (line,) = refused(folder, capsys)
    assert line.startswith(f"output_dir: {folder.root}/run: {folder.root} is read-only")
    assert "Set output_dir=... or change its permissions." in line


def test_cache_dir_that_is_a_file(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.root / "file").write_text("")
    folder.overrides = [f"data.cache_dir={folder.root}/file/cache"]
    (line,) = refused(folder, capsys)
    assert line.startswith(
        f"data.cache_dir: {folder.root}/file/cache: {folder.root}/file is a file"
    )


def test_cache_that_was_damaged_is_made_again(
    folder: Folder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = plan(folder, capsys)
    assert before[0] == 0
    (array,) = (folder.root / "cache").glob("samples/*/input_ids.npy")
    whole = array.read_bytes()
    array.write_bytes(whole[:-8])
    assert plan(folder, capsys) == before
    assert f"cache entry {array.parent} is damaged (input_ids.npy has" in caplog.text
    assert array.read_bytes() == whole


def test_full_disk_ends_a_command_with_a_message(folder: Folder) -> None:
    command = f'ulimit -f 1; exec {sys.executable} {REPOSITORY}/launch/prepare.py "$@"'
    code, output = run(["bash", "-c", command, "-"], folder)
    assert code == USER_FAULT, output
    assert f"data.cache_dir: no room to write below {folder.root}/cache" in output
    assert "Traceback" not in output


def test_full_output_disk_is_named_by_its_own_key(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer.preparing.write_text", full)
    code, _, error = plan(folder, capsys, prepare)
    assert code == USER_FAULT
    assert f"output_dir: no room to write below {folder.root}/run" in error
