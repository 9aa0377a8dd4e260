"""Seals: every file of an entry, its size and what it holds; found out whatever happens to one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from data_modules.sealing import (
    BLOCKS,
    SEAL_FILE,
    SMALL_BYTES,
    WHOLE_BYTES,
    damage_of,
    is_whole,
    made_anew,
    scratch_beside,
    seal,
)

LARGE = WHOLE_BYTES + 12_345


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    folder = tmp_path / "entry"
    with scratch_beside(folder) as scratch:
        (scratch / "part").mkdir()
        (scratch / "part" / "rows.npy").write_bytes(bytes(range(256)) * 1000)
        (scratch / "stats.json").write_text("{}")
        (scratch / "large.npy").write_bytes(b"\1" * LARGE)
    return folder


def flip(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def test_what_was_written_is_whole(entry: Path) -> None:
    assert damage_of(entry) == ""
    assert is_whole(entry)
    assert not made_anew(entry)
    assert sorted(json.loads((entry / SEAL_FILE).read_text())["files"]) == [
        *("large.npy", "part/rows.npy", "stats.json")
    ]


DAMAGE: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    # damage, its words, whether a quick look finds it
    "cut short": (
        lambda folder: (folder / "part/rows.npy").write_bytes(b"\0" * 100),
        "part/rows.npy has 100 bytes and not 256,000",
        True,
    ),
    "gone": (lambda folder: (folder / "stats.json").unlink(), "stats.json cannot be read", True),
    "small file changed": (
        lambda folder: flip(folder / "stats.json", 1),
        "stats.json was changed",
        True,
    ),
    "array changed": (
        lambda folder: flip(folder / "part/rows.npy", 128_000),
        "part/rows.npy was changed",
        False,
    ),
    "large array changed at its start": (
        lambda folder: flip(folder / "large.npy", 0),
        "large.npy was changed",
        False,
    ),
    "large array changed at its end": (
        lambda folder: flip(folder / "large.npy", LARGE - 1),
        "large.npy was changed",
        False,
    ),
    "large array zeroed in part": (
        lambda folder: (folder / "large.npy").write_bytes(
            b"\1" * (LARGE // 2) + b"\0" * (LARGE - LARGE // 2)
        ),
        "large.npy was changed",
        False,
    ),
    "no seal": (lambda folder: (folder / SEAL_FILE).unlink(), "it has no seal.json", True),
    "seal cut short": (
        lambda folder: (folder / SEAL_FILE).write_text('{"files": {'),
        "seal.json cannot be read",
        True,
    ),
    "seal of nothing": (
        lambda folder: (folder / SEAL_FILE).write_text("[]"),
        "seal.json cannot be read",
        True,
    ),
    "seal changed": (
        lambda folder: (folder / SEAL_FILE).write_text(
            (folder / SEAL_FILE).read_text().replace("stats.json", "stats.jsoN")
        ),
        "seal.json was changed",
        True,
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_the_entry_put_out_of_the_way(
    entry: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    damage, words, quickly = DAMAGE[kind]
    damage(entry)
    assert words in damage_of(entry)
    assert is_whole(entry, quick=True) != quickly
    logging.getLogger("polyphase").propagate = True
    assert made_anew(entry)
    assert f"cache entry {entry} is damaged ({words}" in caplog.text
    assert caplog.text.strip().endswith("it is made again")
    assert list(entry.parent.iterdir()) == [], "nothing is left of it"


def test_of_a_large_file_some_blocks_are_summed(tmp_path: Path) -> None:
    """What the docstring says: a change between two blocks is not found."""
    path = tmp_path / "entry" / "huge.npy"
    path.parent.mkdir()
    size = 4 * WHOLE_BYTES
    path.write_bytes(b"\1" * size)
    seal(path.parent)
    block = WHOLE_BYTES // BLOCKS
    flip(path, (size - block) // (BLOCKS - 1) + block // 2)
    assert damage_of(path.parent) == "huge.npy was changed"
    flip(path, (size - block) // (BLOCKS - 1) + block // 2)
    flip(path, block + 1)
    assert damage_of(path.parent) == ""
    assert SMALL_BYTES < WHOLE_BYTES


def test_entry_that_another_process_made_again_meanwhile_is_kept(
    entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the rename the damaged entry was replaced by a whole one."""
    monkeypatch.setattr("data_modules.sealing.damage_of", _says_damaged_once(entry))
    assert not made_anew(entry)
    monkeypatch.undo()
    assert is_whole(entry)


def _says_damaged_once(entry: Path) -> Callable[..., str]:
    def look(folder: Path, quick: bool = False) -> str:
        return "it was" if folder == entry else damage_of(folder, quick)

    return look


def test_file_in_the_place_of_an_entry(tmp_path: Path) -> None:
    (tmp_path / "entry").write_text("")
    assert made_anew(tmp_path / "entry")
    assert not (tmp_path / "entry").exists()


def test_work_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def work() -> None:
        with scratch_beside(tmp_path / "entry") as scratch:
            (scratch / "half.npy").write_bytes(b"\0")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert list(tmp_path.iterdir()) == []


def test_seal_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data_modules.sealing.seal", full)
    with pytest.raises(OSError, match="No space"), scratch_beside(tmp_path / "entry"):
        pass
    assert list(tmp_path.iterdir()) == []
