"""Task files together: tolerated shares of bad rows, all faults at once, the rejects file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from data_modules.reading import (
    count_rejects,
    discovered_tasks,
    read_tasks,
    reject_words,
    write_rejects,
)

from data_modules.config import DataConfig, SourceConfig, TaskConfig
from data_modules.faults import DataFault
from data_modules.records import Reject
from tests.shared_data import data_config, write_rows, write_task

GOOD = {"instruction": "a", "output": "b"}
BAD = {"instruction": "a", "output": ""}


def config(root: Path, ratio: float, **bad_of_ten: int) -> DataConfig:
    """Tasks of ten rows each, the last ``n`` of them unusable."""
    tasks = {}
    for task, bad in bad_of_ten.items():
        write_rows(root / f"{task}.jsonl", [GOOD] * (10 - bad) + [BAD] * bad)
        tasks[task] = TaskConfig(sources={"main": SourceConfig(train=f"{task}.jsonl")})
    return data_config(root, tasks, max_reject_ratio=ratio)


def test_without_tolerance_one_bad_row_stops(tmp_path: Path) -> None:
    data = config(tmp_path, 0.0, qa=1)
    with pytest.raises(DataFault) as caught:
        read_tasks(data, ["qa"], "train")
    (fault,) = caught.value.faults
    assert fault.where == f"{tmp_path}/qa.jsonl:10"
    assert fault.seen == "field 'output' is empty"
    assert fault.rule == "1 of 10 rows are unusable and data.max_reject_ratio is 0"


@pytest.mark.parametrize(("bad", "stops"), [(2, False), (3, True)])
def test_the_tolerated_share_is_met_exactly(tmp_path: Path, bad: int, stops: bool) -> None:
    data = config(tmp_path, 0.2, qa=bad)
    if stops:
        with pytest.raises(DataFault, match=r"3 of 10 rows are unusable.*max_reject_ratio is 0\.2"):
            read_tasks(data, ["qa"], "train")
        return
    records, rejects = read_tasks(data, ["qa"], "train")
    assert len(records["qa"]) == 8
    assert [r.origin for r in rejects] == [f"{tmp_path}/qa.jsonl:{n}" for n in (9, 10)]


def test_the_share_counts_per_file(tmp_path: Path) -> None:
    # 3 of 30 rows would pass over all files; in their own file they are too many.
    data = config(tmp_path, 0.2, code=0, math=0, qa=3)
    with pytest.raises(DataFault) as caught:
        read_tasks(data, ["code", "math", "qa"], "train")
    assert {f.where.split(":")[0] for f in caught.value.faults} == {f"{tmp_path}/qa.jsonl"}


def test_faults_of_all_files_are_listed_at_once(tmp_path: Path) -> None:
    data = config(tmp_path, 0.0, qa=1, code=8, fine=0)
    data.tasks["gone"] = TaskConfig(sources={"main": SourceConfig(train="gone.jsonl")})
    with pytest.raises(DataFault) as caught:
        read_tasks(data, ["qa", "gone", "fine", "code"], "train")
    where = [fault.where for fault in caught.value.faults]
    # Of the eight bad rows five are shown; the sixth line tells the rest.
    assert where == [
        f"{tmp_path}/qa.jsonl:10",
        "data.tasks.gone.source",
        *(f"{tmp_path}/code.jsonl:{n}" for n in range(3, 9)),
    ]
    assert caught.value.faults[-1].seen == "and 3 more unusable rows from here on"
    assert str(caught.value).startswith("8 faults:\n")


def test_splits_are_read_from_their_own_source(tmp_path: Path) -> None:
    data = data_config(tmp_path, {"qa": write_task(tmp_path, "qa", train=3, evaluation=2)})
    train, _ = read_tasks(data, ["qa"], "train")
    held_out, _ = read_tasks(data, ["qa"], "eval")
    assert (len(train["qa"]), len(held_out["qa"])) == (3, 2)
    assert held_out["qa"][0].messages[0].content == "qa eval "


def test_only_named_tasks_are_read(tmp_path: Path) -> None:
    data = config(tmp_path, 0.0, qa=0, broken=10)
    records, rejects = read_tasks(data, ["qa"], "train")
    assert (list(records), rejects) == (["qa"], [])


def test_the_rejects_file_keeps_everything(tmp_path: Path) -> None:
    rejects = [
        Reject("qa", "a.jsonl:3", "empty_answer", "field 'output' is empty", '{"é": "\\ud83d"}'),
        Reject("code", "b.jsonl:1", "overlong", "9 tokens", "x"),
    ]
    path = tmp_path / "new" / "abc.rejects.jsonl"
    write_rejects(rejects, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [asdict(one) for one in rejects]
    assert "é" in lines[0], "text stays readable"
    assert list(path.parent.iterdir()) == [path], "the scratch file is gone"
    write_rejects([], path)
    assert path.read_text(encoding="utf-8") == ""


def test_rejects_are_counted_by_task_and_rule() -> None:
    one = Reject("qa", "", "overlong", "", "")
    counts = count_rejects(
        [one, one, Reject("qa", "", "empty_answer", "", ""), Reject("code", "", "overlong", "", "")]
    )
    assert counts == {"qa": {"overlong": 2, "empty_answer": 1}, "code": {"overlong": 1}}
    assert reject_words(counts) == "code 1 (1 overlong), qa 3 (1 empty_answer, 2 overlong)"


def test_discovery_finds_training_files_only(tmp_path: Path) -> None:
    for name in (
        "train/b.jsonl",
        "train/a.jsonl",
        "train/notes.txt",
        "eval/c.jsonl",
        "train/deep/d.jsonl",
    ):
        write_rows(tmp_path / name, [])
    assert discovered_tasks(data_config(tmp_path, {})) == ["a", "b"]
