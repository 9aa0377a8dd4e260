"""A checkpoint's folder: what makes it complete, whether it still is, and which ones are kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.shared_checkpoint import (
    change_json,
    check_all,
    is_original,
    made_config,
    made_state,
    write_checkpoint,
)
from trainer.checkpoint import folder as folders
from trainer.checkpoint.folder import (
    COMPLETE,
    LATEST,
    STATE,
    Damaged,
    check_sizes,
    checkpoints,
    clear_scratch,
    drop_after,
    newest,
    prune,
    read_marker,
    remove,
    scratch_of,
    step_name,
)

SHARD_0, SHARD_1 = "shard_00000_of_00002.safetensors", "shard_00001_of_00002.safetensors"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def write(root: Path, *steps: int) -> list[Path]:
    config = made_config(root.parent)
    return [write_checkpoint(root, made_state(config, step)) for step in steps]


def steps(root: Path) -> list[int]:
    return [folders.step_of(folder) for folder in checkpoints(root)]


def damage_of(folder: Path) -> str:
    """Why a checkpoint is refused."""

    def look() -> None:
        marker = read_marker(folder)
        check_sizes(folder, marker)
        check_all(folder, marker)

    with pytest.raises(Damaged) as caught:
        look()
    return str(caught.value)


def test_the_marker_names_every_file(root: Path) -> None:
    (folder,) = write(root, 2)
    assert folder.name == "step_000002"
    assert {path.name for path in folder.iterdir()} == {COMPLETE, STATE, SHARD_0, SHARD_1}
    marker = read_marker(folder)
    assert (marker.global_step, marker.phase_end) == (2, False)
    assert set(marker.files) == {STATE, SHARD_0, SHARD_1}
    assert marker.shards == [SHARD_0, SHARD_1]
    check_sizes(folder, marker)
    check_all(folder, marker)
    assert is_original(folder, marker, 2)
    assert (root / LATEST).read_text() == "step_000002\n"


@pytest.mark.parametrize("name", [STATE, SHARD_0, SHARD_1])
def test_every_file_is_held_against_its_size(root: Path, name: str) -> None:
    (folder,) = write(root, 2)
    path = folder / name
    size = path.stat().st_size
    os.truncate(path, size - 1)
    assert damage_of(folder) == f"{name} has {size - 1} bytes, it had {size}"
    os.truncate(path, size + 1)
    assert damage_of(folder) == f"{name} has {size + 1} bytes, it had {size}"
    path.unlink()
    assert damage_of(folder) == f"{name} is missing (No such file or directory)"


@pytest.mark.parametrize("name", [STATE, SHARD_0, SHARD_1])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_every_file_is_held_against_its_checksum(root: Path, name: str, place: float) -> None:
    (folder,) = write(root, 2)
    data = bytearray((folder / name).read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    (folder / name).write_bytes(data)
    check_sizes(folder, read_marker(folder))  # the size tells nothing
    assert damage_of(folder) == f"{name} is not what was written: its checksum differs"


def test_a_file_that_cannot_be_read_is_damage(root: Path) -> None:
    (folder,) = write(root, 2)
    marker = read_marker(folder)
    (folder / SHARD_1).unlink()
    (folder / SHARD_1).mkdir()
    with pytest.raises(Damaged, match=f"{SHARD_1} cannot be read"):
        check_all(folder, marker)


def without_marker(folder: Path) -> None:
    (folder / COMPLETE).unlink()


def text(content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / COMPLETE).write_text(content)


def changed(change: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / COMPLETE, change)


def renamed(old: str, new: str) -> Callable[[Path], None]:
    return changed(lambda marker: marker["files"].update({new: marker["files"].pop(old)}))


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (without_marker, "complete.json cannot be read (No such file or directory)"),
    (text(""), "complete.json is no JSON"),
    (text('{"global_step": 2, "phase_'), "complete.json is no JSON"),
    (text("\udce9".encode(errors="surrogateescape").decode("latin-1")), "complete.json is no JSON"),
    (text("[" * 100_000), "complete.json is no JSON"),
    (text("[]"), "complete.json holds no JSON object"),
    (text("{}"), "complete.json is no marker"),
    (changed(lambda marker: marker.pop("phase_end")), "complete.json is no marker"),
    (changed(lambda marker: marker.update(phase_end=1)), "1 is neither true nor false"),
    (changed(lambda marker: marker.update(global_step="2")), "'2' is no count"),
    (changed(lambda marker: marker.update(global_step=True)), "True is no count"),
    (changed(lambda marker: marker.update(global_step=-2)), "-2 is no count"),
    (changed(lambda marker: marker.update(files=[])), "complete.json is no marker"),
    (changed(lambda marker: marker["files"].update({STATE: 3})), "complete.json is no marker"),
    (changed(lambda marker: marker["files"][STATE].update(bytes=1.5)), "1.5 is no count"),
    (changed(lambda marker: marker["files"][STATE].update(sha256=None)), "None is no text"),
    (changed(lambda marker: marker["files"].pop(STATE)), f"does not name {STATE}"),
    (changed(lambda marker: marker["files"].pop(SHARD_0)), "does not name one shard of every rank"),
    (changed(lambda marker: marker["files"].pop(SHARD_1)), "does not name one shard of every rank"),
    (renamed(SHARD_1, "../x"), "names a file that is none of a checkpoint: '../x'"),
    (renamed(SHARD_1, f"../step_000001/{SHARD_1}"), "names a file that is none of a checkpoint"),
    (renamed(SHARD_1, "/etc/passwd"), "names a file that is none of a checkpoint: '/etc/passwd'"),
    (renamed(SHARD_1, f"{SHARD_1}\n"), "names a file that is none of a checkpoint"),
    (renamed(SHARD_1, "complete.json"), "names a file that is none of a checkpoint"),
    (
        renamed(SHARD_1, "shard_00001_of_00003.safetensors"),
        "does not name one shard of every rank",
    ),
]


@pytest.mark.parametrize(("breaking", "words"), BROKEN)
def test_broken_markers(root: Path, breaking: Callable[[Path], None], words: str) -> None:
    (folder,) = write(root, 2)
    breaking(folder)
    assert words in damage_of(folder)
    assert newest(root) is None


def test_a_checkpoint_is_never_complete_while_it_is_written(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def spy(scratch: Path, folder: Path, marker: folders.Marker) -> None:
        seen.append({path.name for path in scratch.iterdir()})
        assert not folder.exists()
        complete(scratch, folder, marker)

    complete = folders.complete
    monkeypatch.setattr(folders, "complete", spy)
    write(root, 2)
    assert seen == [{STATE, SHARD_0, SHARD_1}]


def test_an_interrupted_delete_is_never_complete(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, 1, 2)
    folder = root / step_name(2)
    gone: list[str] = []

    def killed(path: Path, **_: object) -> None:
        gone.extend(one.name for one in path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(folder)
    assert set(gone) == {STATE, SHARD_0, SHARD_1}, "the marker goes first"
    assert newest(root) == root / step_name(1)


def test_scratch_of_another_attempt_is_not_read_or_mixed_in(root: Path) -> None:
    folder = root / step_name(2)
    other = scratch_of(folder, "other")
    write(root, 2)
    shutil.copytree(folder, other)  # all of it, marker too
    remove(folder)
    assert (checkpoints(root), newest(root)) == ([], None)
    (other / SHARD_1).write_bytes(b"of another attempt")
    write(root, 2)
    marker = read_marker(folder)
    check_all(folder, marker)
    assert is_original(folder, marker, 2)
    clear_scratch(root)
    assert {path.name for path in root.iterdir()} == {"step_000002", LATEST}


def test_saving_a_step_again_replaces_it(root: Path) -> None:
    (folder,) = write(root, 2)
    (folder / "left").touch()
    write(root, 2)
    assert {path.name for path in folder.iterdir()} == {COMPLETE, STATE, SHARD_0, SHARD_1}
    check_all(folder, read_marker(folder))


def test_other_names_are_no_checkpoints(root: Path) -> None:
    write(root, 1)
    for name in ("step_1", "step_000002.tmp-ab", "step_00000x", "other", "step_000003 "):
        (root / name).mkdir()
    (root / "step_000009").touch()
    assert steps(root) == [1]
    assert steps(root / "nowhere") == []


def test_the_newest_is_that_of_the_greatest_step(root: Path) -> None:
    for step in (999_999, 5, 1_000_000):
        (root / step_name(step)).mkdir(parents=True)
    assert steps(root) == [1_000_000, 999_999, 5]


@pytest.mark.parametrize(
    ("keep_last", "kept"),
    # Phases end at 4 and 8.
    [(1, [9, 8, 4]), (2, [9, 8, 4]), (3, [9, 8, 7, 4]), (9, [9, 8, 7, 6, 4, 2])],
)
def test_the_newest_and_phase_ends_are_kept(root: Path, keep_last: int, kept: list[int]) -> None:
    write(root, 2, 4, 6, 7, 8, 9)
    prune(root, keep_last)
    assert steps(root) == kept


def test_an_incomplete_one_is_none_of_the_newest(root: Path) -> None:
    write(root, 1, 2, 3, 5, 6)
    (root / step_name(5) / COMPLETE).unlink()
    prune(root, 2)
    assert steps(root) == [6, 3]
    (root / step_name(6) / COMPLETE).unlink()
    prune(root, 1)
    assert steps(root) == [6, 3], "whatever it is, a newer one replaces it"


def test_latest_is_the_newest_complete_one(root: Path) -> None:
    write(root, 1, 2, 3)
    assert (root / LATEST).read_text() == "step_000003\n"
    drop_after(root, 3)
    assert (root / LATEST).read_text() == "step_000003\n"
    drop_after(root, 1)
    assert (steps(root), (root / LATEST).read_text()) == ([1], "step_000001\n")
    drop_after(root, 0)
    assert (steps(root), (root / LATEST).exists()) == ([], False)


def test_nothing_is_dropped_from_nowhere(root: Path) -> None:
    drop_after(root, 1)
    prune(root, 1)
    clear_scratch(root)
    assert newest(root) is None
