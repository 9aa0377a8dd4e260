"""The digest changes with what the rows depend on, and with nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from data_modules.config import DataConfig, RowFormat, SourceConfig, TaskConfig
from data_modules.faults import DataFault
from data_modules.sources import digest, source_digest
from tests.data_modules.sources.source_data import GOOD, config
from tests.shared_data import data_config, write_rows


def digest_of(data: DataConfig, split: str = "train") -> str:
    return source_digest(data, list(data.tasks), split, Path(data.cache_dir))


def two_files(root: Path, **settings: Any) -> DataConfig:
    write_rows(root / "t/a.jsonl", [GOOD])
    write_rows(root / "t/b.jsonl", [GOOD] * 2)
    write_rows(root / "e.jsonl", [GOOD])
    return config(root, "t", eval="e.jsonl", **settings)


@pytest.mark.parametrize(
    "setting",
    [
        {"format": RowFormat.alpaca},
        {"fields": {"output": "reply"}},
        {"where": "len(output) > 0"},
    ],
)
def test_settings_that_change_rows_change_it(tmp_path: Path, setting: dict[str, Any]) -> None:
    assert digest_of(two_files(tmp_path)) != digest_of(two_files(tmp_path, **setting))


@pytest.mark.parametrize("setting", [{"weight": 2.0}, {"subset": "x"}, {"split": "x"}])
def test_settings_that_change_no_rows_of_files_do_not(
    tmp_path: Path, setting: dict[str, Any]
) -> None:
    assert digest_of(two_files(tmp_path)) == digest_of(two_files(tmp_path, **setting))


def change_a_byte(root: Path) -> None:
    path = root / "t/a.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a", b"c", 1))


def add_a_file(root: Path) -> None:
    write_rows(root / "t/c.jsonl", [GOOD])


def rename_a_file(root: Path) -> None:
    (root / "t/a.jsonl").rename(root / "t/aa.jsonl")


@pytest.mark.parametrize("change", [change_a_byte, add_a_file, rename_a_file])
def test_files_that_change_change_their_split_only(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    data = two_files(tmp_path)
    train, held_out = digest_of(data), digest_of(data, "eval")
    change(tmp_path)
    assert digest_of(data) != train
    assert digest_of(data, "eval") == held_out


def test_the_place_and_time_of_files_do_not_matter(tmp_path: Path) -> None:
    before = digest_of(two_files(tmp_path / "one"))
    shutil.move(tmp_path / "one", tmp_path / "two")
    os.utime(tmp_path / "two/t/a.jsonl", (1, 1))
    source = SourceConfig(train="t", eval="e.jsonl")
    data = data_config(tmp_path / "two", {"qa": TaskConfig(sources={"main": source})})
    assert digest_of(data) == before


def test_tasks_and_their_order_matter(tmp_path: Path) -> None:
    data = two_files(tmp_path)
    data.tasks["code"] = data.tasks["qa"]
    cache = tmp_path / "cache"
    made = {
        source_digest(data, tasks, "train", cache)
        for tasks in (["qa"], ["code"], ["qa", "code"], ["code", "qa"])
    }
    assert len(made) == 4


def test_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = two_files(tmp_path)
    read: list[str] = []
    whole = Path.open

    def spy(self: Path, *args: Any, **settings: Any) -> Any:
        if self.suffix == ".jsonl":
            read.append(self.name)
        return whole(self, *args, **settings)

    monkeypatch.setattr(Path, "open", spy)
    first = digest_of(data)
    assert read == ["a.jsonl", "b.jsonl"]
    assert digest_of(data) == first
    assert read == ["a.jsonl", "b.jsonl"]
    os.utime(tmp_path / "t/b.jsonl", (5, 5))
    assert digest_of(data) == first
    assert read == ["a.jsonl", "b.jsonl", "b.jsonl"]
    assert [path for path in (tmp_path / "cache/hashes").iterdir() if ".tmp" in path.name] == []


def test_saved_data_sets_go_by_their_rows_and_split(tmp_path: Path) -> None:
    def saved(name: str, train: str, test: str) -> str:
        splits = {
            split: datasets.Dataset.from_list([{"prompt": "a", "completion": answer}])
            for split, answer in (("train", train), ("test", test))
        }
        datasets.DatasetDict(splits).save_to_disk(tmp_path / name / "s")
        source = SourceConfig(train="s")
        return digest_of(data_config(tmp_path / name, {"qa": TaskConfig({"main": source})}))

    first = saved("1", "b", "c")
    assert saved("2", "b", "c") == first
    assert saved("3", "b", "other") == first
    assert saved("4", "other", "c") != first


def test_hub_data_sets_go_by_name_split_and_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "_hub_revision", lambda name, cache_dir: "abc")
    made = {
        digest_of(config(tmp_path, f"hub:{name}", split=split, subset=subset))
        for name, split, subset in [
            ("o/n", "train", None),
            ("o/m", "train", None),
            ("o/n", "test", None),
            ("o/n", "train", "zh"),
        ]
    }
    assert len(made) == 4
    before = digest_of(config(tmp_path, "hub:o/n"))
    monkeypatch.setattr(digest, "_hub_revision", lambda name, cache_dir: "def")
    assert digest_of(config(tmp_path, "hub:o/n")) != before


def test_a_local_hub_data_set_goes_by_its_files(tmp_path: Path) -> None:
    write_rows(tmp_path / "d/train.jsonl", [GOOD])
    before = digest_of(config(tmp_path, f"hub:{tmp_path}/d"))
    write_rows(tmp_path / "d/train.jsonl", [GOOD, GOOD])
    assert digest_of(config(tmp_path, f"hub:{tmp_path}/d")) != before


def test_missing_files_are_faults(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"data\.tasks\.qa\.sources\.main\.train: cannot read"):
        digest_of(config(tmp_path, "none.jsonl"))
