"""``train_losses.jsonl`` leads a person back to the row in their file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_modules.config import BoundaryConfig, SourceConfig, TaskConfig
from data_modules.mixture import BalanceConfig, MixtureConfig, Strategy
from data_modules.phase_data_module import PhaseDataModule
from data_modules.probe_rows import probe_rows
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_rows, write_task
from trainer.evaluation.train_losses import TrainLosses, TrainRow, write_train_losses


@pytest.fixture
def data(tmp_path: Path) -> PhaseDataModule:
    """``own`` has ids of its own and a negative that shares one; ``rare`` is drawn many times."""
    tasks = {"plenty": write_task(tmp_path, "plenty", 40), "rare": write_task(tmp_path, "rare", 4)}
    rows = [{"id": f"r{n}", "instruction": f"ask {n}", "output": f"say {n}"} for n in range(6)]
    rows.insert(2, {**rows[3], "output": "wrong", "negative": True})
    write_rows(tmp_path / "train/own.jsonl", rows)
    tasks["own"] = TaskConfig(sources={"main": SourceConfig(train="train/own.jsonl")}, tag="[own]")
    made = PhaseDataModule(
        data=data_config(tmp_path, tasks),
        boundary=BoundaryConfig(),
        mixtures={
            "mix": MixtureConfig(epochs=2, balance=BalanceConfig(Strategy.caps, min_rows=10)),
            "few": MixtureConfig(tasks=["plenty"], steps=2),
        },
        tokenizer=byte_tokenizer(CHATML),
        seed=5,
        global_batch_size=4,
    )
    made.prepare()
    made.load()
    return made


def measured(data: PhaseDataModule, per_task: int) -> TrainLosses:
    """A made-up loss of every sampled row."""
    store = data.plans["mix"].store
    rows = [
        TrainRow(task, int(row), int(store.row_keys[row]), row / 8, 3, int(times))
        for task, found in probe_rows(data.plans["mix"], per_task, 5, "train losses").items()
        for row, times in zip(found.rows, found.times, strict=True)
    ]
    return TrainLosses({}, rows)


def test_every_row_is_found_again(data: PhaseDataModule, tmp_path: Path) -> None:
    found = measured(data, 50)
    path = tmp_path / "phases" / "mix" / "train_losses.jsonl"
    write_train_losses(path, found, data, "mix")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len(found.rows) == 40 + 4 + 6
    for line, row in zip(lines, found.rows, strict=True):
        assert [line["task"], line["loss"], line["times"]] == [row.task, row.loss, row.times]
        file, number = line["origin"].rsplit(":", 1)
        there = (tmp_path / file).read_text(encoding="utf-8").splitlines()[int(number) - 1]
        stands = json.loads(there)
        assert not stands.get("negative")
        assert [line["request"], line["answer"]] == [stands["instruction"], stands["output"]]
        assert line["row_id"] == stands.get("id", line["origin"])
        assert stands["instruction"] in line["prompt"]
        assert line["prompt"].endswith("<|assistant|>\n")
    assert {line["row_id"] for line in lines if line["task"] == "own"} == {
        f"r{number}" for number in range(6)
    }


def test_the_sample_holds_what_is_drawn_and_how_often(data: PhaseDataModule) -> None:
    plan = data.plans["mix"]
    found = probe_rows(plan, 5, 5, "train losses")
    assert {task: len(one.rows) for task, one in found.items()} == {
        "own": 5,
        "plenty": 5,
        "rare": 4,
    }
    drawn = np.bincount(plan.rows, minlength=len(plan.store))
    for task, one in found.items():
        assert (np.asarray(plan.store.signs)[one.rows] == 1).all()
        names = {plan.store.tasks[number] for number in plan.store.task_ids[one.rows]}
        assert names == {task}
        assert one.times.tolist() == drawn[one.rows].tolist()
        assert len(set(one.rows.tolist())) == len(one.rows)
    assert found["rare"].times.min() >= 5, "four rows make ten an epoch, twice"
    assert set(probe_rows(data.plans["few"], 50, 5, "x")) == {"plenty"}
    assert len(probe_rows(data.plans["few"], 50, 5, "x")["plenty"].rows) == 8, "two steps of four"


def test_the_sample_goes_by_seed_and_purpose_and_not_by_other_tasks(data: PhaseDataModule) -> None:
    def rows(seed: int, purpose: str) -> list[int]:
        return probe_rows(data.plans["mix"], 5, seed, purpose)["plenty"].rows.tolist()

    assert rows(5, "a") == rows(5, "a")
    assert rows(5, "a") != rows(6, "a")
    assert rows(5, "a") != rows(5, "b")
