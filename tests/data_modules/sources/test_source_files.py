"""Which files a source names; which tasks a folder has."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pytest

from data_modules.config import SourceConfig, TaskConfig
from data_modules.faults import DataFault
from data_modules.sources import discovered_tasks, source_files
from data_modules.sources.files import Kind, kind_of
from tests.data_modules.sources.source_data import GOOD
from tests.shared_data import data_config, write_rows

KEY = "data.tasks.qa.sources.main.train"


def fill(root: Path, *names: str) -> None:
    for name in names:
        write_rows(root / name, [GOOD])


def save(path: Path) -> None:
    datasets.Dataset.from_list([GOOD]).save_to_disk(path)


def named(root: Path, pattern: str) -> list[str]:
    found = source_files(data_config(root, {}), KEY, pattern)
    return [path.relative_to(root).as_posix() for path in found]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("b.jsonl", ["b.jsonl"]),
        ("*.jsonl", ["a[1].jsonl", "b.jsonl"]),
        ("a[1].jsonl", ["a[1].jsonl"]),  # a file of that very name
        ("?.jsonl", ["b.jsonl"]),
        ("deep", ["deep/c.csv.gz", "deep/more/d.jsonl", "deep/saved"]),
        ("deep/*", ["deep/c.csv.gz", "deep/saved"]),
        ("**/*.jsonl", ["a[1].jsonl", "b.jsonl", "deep/more/d.jsonl"]),
        ("deep/**", ["deep/c.csv.gz", "deep/more/d.jsonl", "deep/saved"]),
        ("deep/saved", ["deep/saved"]),
        ("deep/saved/*.arrow", ["deep/saved/data-00000-of-00001.arrow"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    fill(tmp_path, "b.jsonl", "a[1].jsonl", "notes.txt", "deep/c.csv.gz", "deep/more/d.jsonl")
    fill(tmp_path, "deep/.hidden.jsonl", "deep/README.md")
    save(tmp_path / "deep/saved")
    assert named(tmp_path, pattern) == expected
    assert named(tmp_path, f"{tmp_path}/{pattern}") == expected


def test_brackets_in_the_root_are_no_pattern(tmp_path: Path) -> None:
    root = tmp_path / "run[1]"
    fill(root, "a.jsonl")
    assert named(root, "*.jsonl") == ["a.jsonl"]


@pytest.mark.parametrize(
    ("pattern", "seen"),
    [
        ("none.jsonl", "cannot read {root}/none.jsonl (No such file or directory)"),
        ("none", "cannot read {root}/none (No such file or directory)"),
        ("*.csv", "no file matches {root}/*.csv"),
        ("*.txt", "1 files match {root}/*.txt, but none is a data file"),
        ("notes.txt", "{root}/notes.txt is of no known kind"),
        ("empty", "folder {root}/empty has no data file"),
    ],
)
def test_what_matches_nothing_names_the_key(tmp_path: Path, pattern: str, seen: str) -> None:
    fill(tmp_path, "notes.txt", "empty/README.md")
    with pytest.raises(DataFault) as caught:
        source_files(data_config(tmp_path, {}), KEY, pattern)
    (fault,) = caught.value.faults
    assert (fault.where, fault.seen) == (KEY, seen.format(root=tmp_path))


def test_a_folder_that_may_not_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "d/a.jsonl", "d/sub/b.jsonl")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataFault) as caught:
        source_files(data_config(tmp_path, {}), KEY, "d")
    (fault,) = caught.value.faults
    assert (fault.where, fault.seen) == (KEY, f"cannot read {tmp_path}/d/sub (Permission denied)")


def test_kinds(tmp_path: Path) -> None:
    names = {
        "a.jsonl": Kind.jsonl,
        "a.JSON": Kind.json,
        "a.csv.bz2": Kind.csv,
        "a.tsv.zst": Kind.tsv,
        "a.jsonl.xz": Kind.jsonl,
        "a.parquet": Kind.parquet,
        "a.arrow": Kind.arrow,
        "a.parquet.gz": None,
        "a.txt": None,
        "jsonl": None,
    }
    assert {name: kind_of(tmp_path / name) for name in names} == names


def test_discovery_pairs_training_and_evaluation(tmp_path: Path) -> None:
    fill(tmp_path, "train/b.jsonl.gz", "train/a.v2.jsonl", "train/notes.txt", "train/.x.jsonl")
    fill(tmp_path, "train/deep/d.csv", "train/bare/README.md", "eval/a.v2.csv", "eval/only.jsonl")
    fill(tmp_path, "eval/deep/e.jsonl")
    save(tmp_path / "train/saved")
    assert discovered_tasks(data_config(tmp_path, {})) == {
        "a.v2": SourceConfig(train="train/a.v2.jsonl", eval="eval/a.v2.csv"),
        "b": SourceConfig(train="train/b.jsonl.gz"),
        "deep": SourceConfig(train="train/deep", eval="eval/deep"),
        "saved": SourceConfig(train="train/saved"),
    }
    assert discovered_tasks(data_config(tmp_path / "nowhere", {})) == {}


def test_discovery_leaves_out_what_a_task_uses(tmp_path: Path) -> None:
    fill(tmp_path, "train/a.jsonl", "train/b.jsonl", "train/c/1.jsonl", "train/c/2.jsonl")
    sources = {
        "one": SourceConfig(train="./train/a.jsonl"),
        "two": SourceConfig(train="train/c/*.jsonl"),
        "hub": SourceConfig(train="hub:owner/name"),
        "gone": SourceConfig(train="gone.jsonl"),
    }
    data = data_config(tmp_path, {"mine": TaskConfig(sources=sources)})
    assert list(discovered_tasks(data)) == ["b"]


def test_discovery_fills_in_what_a_declared_task_leaves_open(tmp_path: Path) -> None:
    fill(tmp_path, "train/a.jsonl", "train/b.jsonl", "train/c.jsonl", "eval/b.jsonl", "more.jsonl")
    fields = {"instruction": "question"}
    tasks = {
        "a": TaskConfig(general=True),
        "b": TaskConfig(sources={"main": SourceConfig(fields=fields, weight=2.0)}),
        "c": TaskConfig(
            sources={
                "main": SourceConfig(eval="more.jsonl"),
                "more": SourceConfig(train="more.jsonl"),
            }
        ),
    }
    assert discovered_tasks(data_config(tmp_path, tasks)) == {
        "a": SourceConfig(train="train/a.jsonl"),
        "b": SourceConfig(train="train/b.jsonl", eval="eval/b.jsonl", fields=fields, weight=2.0),
        "c": SourceConfig(train="train/c.jsonl", eval="more.jsonl"),
    }


def test_discovery_refuses_two_files_of_one_name(tmp_path: Path) -> None:
    fill(tmp_path, "train/a.jsonl", "train/a.csv", "train/b/1.jsonl", "train/c.jsonl")
    fill(tmp_path, "eval/b.jsonl", "eval/b.tsv", "other.jsonl")
    tasks = {"c": TaskConfig(sources={"main": SourceConfig(train="other.jsonl")})}
    with pytest.raises(DataFault) as caught:
        discovered_tasks(data_config(tmp_path, tasks))
    assert [(fault.seen, fault.rule) for fault in caught.value.faults] == [
        ("train/a.csv, train/a.jsonl", "each of them would be task 'a'"),
        ("eval/b.jsonl, eval/b.tsv", "each of them would be task 'b'"),
        ("train/c.jsonl", "data.tasks.c exists and does not use it"),
    ]
