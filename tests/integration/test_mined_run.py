"""A leaky model is mined, the next phase's plan counts what was found, and a run trains on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launching import REPOSITORY, composed, steps_of

from data_modules.faults import DataFault
from data_modules.negatives import explicit_negatives
from data_modules.sources import read_unit, units_of
from trainer.config.schema import Config
from trainer.mining import mine
from trainer.planning import show_plan
from trainer.train import make_data, train


@dataclass(frozen=True)
class Mined:
    """A run that was mined behind its first phase, and the command line that trains the next on it."""

    folder: Path
    overrides: list[str]

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "mined.json").read_text("utf-8"))
        return found

    def next_phase(self, *more: str) -> Config:
        lines = (self.folder / "overrides.txt").read_text("utf-8").splitlines()
        return composed([*self.overrides, "+phase=specialize", *lines, *more])

    @property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        return {
            file.stem: [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            for file in sorted(self.folder.glob("*.jsonl"))
        }


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Mined:
    """Trained for 24 steps without tags, so that it takes tasks for one another."""
    root = tmp_path_factory.mktemp("mining")
    overrides = [
        "experiment=bench/demo",
        f"data.root={root}/data",
        f"data.cache_dir={root}/cache",
        f"output_dir={root}/run",
        "data.benchmark.multiplier=0.5",
        "data.benchmark.general_rows=100",
        "data.benchmark.eval_rows=6",
        "limits.steps_per_phase=24",
        "evaluation=none",
        "boundary=none",
        "cluster.threads_per_rank=1",
        "data.workers=1",
        # as few rows as the tasks have are each other's near duplicates
        "data.cleaning.near_duplicates=0.85",
        "data.cleaning.max_drop_ratio=1",
        "mining.prompt_sets=[conflict,no_tag]",
        "mining.rows_per_task=12",
        "mining.most=40",
        "mining.most_per_pair=4",
    ]
    train(composed([*overrides, "+phase=mix", "checkpoint=export_only"]))
    overrides.append("init_from=" + str(root / "run/phases/mix/hf"))
    mine(composed(overrides))
    return Mined(root / "run/mined/mix", overrides)


def test_what_was_found_adds_up(mined: Mined) -> None:
    tasks = mined.summary["tasks"]
    assert mined.summary["phase"] == "mix"
    negatives = {task: sum(one["negatives"].values()) for task, one in tasks.items()}
    assert 0 < sum(negatives.values()) <= 40
    assert max(count for one in tasks.values() for count in one["negatives"].values()) <= 4
    assert set(mined.rows) == {task for task, count in negatives.items() if count}
    for task, rows in mined.rows.items():
        assert sum("rejected" in row for row in rows) == negatives[task]
        assert len(rows) == tasks[task]["rows"]
        for row in rows:
            assert row["id"].startswith(f"train/{task}.jsonl:")
            if "rejected" in row:
                assert tasks[task]["negatives"][row["behaves_like"]] > 0


def test_the_next_plan_counts_them(mined: Mined, capsys: pytest.CaptureFixture[str]) -> None:
    config = mined.next_phase()
    data = make_data(config, config.init_from)
    data.prepare()
    data.load()
    plan = data.plans["specialize"]
    store = plan.store
    for task, rows in mined.rows.items():
        source = store.sources.index(f"{task}/mined_mix")
        signs = np.asarray(store.signs)[np.asarray(store.source_ids) == source]
        # every row, though cleaning looks for duplicates, and a negative for every wrong answer
        assert int((signs > 0).sum()) == len(rows)
        assert int((signs < 0).sum()) == sum("rejected" in row for row in rows)
    used = plan.use()
    drawn = sum(use.negatives for use in used.values())
    assert drawn > 0
    assert drawn == sum(use.negative_sources.get("mined_mix", 0) for use in used.values())
    show_plan(config)
    text = capsys.readouterr().out
    for task in mined.rows:
        use = used[task]
        counts = ", ".join(f"{name} {count}" for name, count in use.sources.items())
        assert f"specialize: {task} by source: {counts}" in text


def test_training_pushes_away_from_them(mined: Mined) -> None:
    more = ("curriculum.phases.specialize.negatives.start=0", "limits.steps_per_phase=2")
    config = mined.next_phase(*more, f"output_dir={mined.folder.parent.parent}/next")
    train(config)
    steps = steps_of(Path(config.output_dir))
    assert len(steps) == 2
    for step in steps:
        pushed = {key.split("/")[2] for key in step if key.startswith("negative/tokens/")}
        assert pushed
        assert pushed <= set(mined.rows)
        assert all(0 < step[f"negative/p/{task}"] < 1 for task in pushed)


def test_no_row_asks_what_an_evaluation_row_asks(mined: Mined) -> None:
    config = mined.next_phase()
    held_out = {
        json.loads(line)["input"]
        for file in Path(config.data.root).glob("eval*/*.jsonl")
        for line in file.read_text("utf-8").splitlines()
    }
    assert len(held_out) > 50
    for task in mined.rows:
        (unit,) = (
            one for one in units_of(config.data, [task], "train") if one.source_name == "mined_mix"
        )
        records = list(read_unit(unit, config.data.tasks[task].sources["mined_mix"]))
        for row, record in zip(mined.rows[task], records, strict=True):
            assert row["input"] not in held_out
            wrong = explicit_negatives(record)  # type: ignore[arg-type]
            assert [one.answer for one in wrong] == [row["rejected"]] * ("rejected" in row)


def test_two_ranks_find_the_same(mined: Mined, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command += [str(REPOSITORY / "launch/mine.py"), *mined.overrides, f"output_dir={tmp_path}"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=400,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "leaks on training requests" in done.stdout
    other = Mined(tmp_path / "mined/mix", mined.overrides)
    assert other.rows == mined.rows
    assert other.summary["tasks"] == mined.summary["tasks"]


def test_a_mined_file_that_is_gone_is_named(mined: Mined) -> None:
    config = mined.next_phase("data.tasks.qa.sources.mined_mix.train=/no/such.jsonl")
    with pytest.raises(DataFault, match=r"data\.tasks\.qa\.sources\.mined_mix\.train"):
        make_data(config, config.init_from).prepare()
