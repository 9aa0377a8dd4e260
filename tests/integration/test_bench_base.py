"""The recipe of the shipped base model still works, and the shipped model has the skills."""

from __future__ import annotations

import json
from pathlib import Path

from launching import REPOSITORY, composed, steps_of

from trainer.train import train

SHIPPED = REPOSITORY / "assets/bench_base"


def general_accuracy(run: Path, task: str) -> float:
    """Accuracy on general skills that a run recorded before its first step."""
    evaluation = json.loads((run / "initial/evaluation.json").read_text(encoding="utf-8"))
    result = evaluation["tasks"][task]
    accuracy: float = result["sets"]["ordinary"]["processed"][result["metric"]]["value"]
    return accuracy


def test_a_shortened_recipe_learns_the_skills(tmp_path: Path) -> None:
    """1,000 of the recipe's 4,200 steps; without the first 200 the loss is about 0.8 there."""
    overrides = [
        "experiment=bench/base",
        f"data.root={tmp_path}/data",
        f"data.cache_dir={tmp_path}/cache",
        f"output_dir={tmp_path}/run",
        "data.benchmark.base_rows=128000",
        "limits.steps_per_phase=800",
        # the whole recipe's rate has hardly fallen by then
        "curriculum.phases.base.schedule.shape=constant",
        "evaluation=none",
        "checkpoint=none",
        # two threads wait for each other ten times as long as they compute where cores are shared
        "cluster.threads_per_rank=1",
    ]
    train(composed(overrides))
    steps = steps_of(tmp_path / "run")
    assert [sum(entry["phase"] == name for entry in steps) for name in ("cells", "base")] == [
        200,
        800,
    ]
    last = [entry["loss"] for entry in steps[-40:]]
    assert sum(last) / len(last) < 0.6


def test_the_shipped_base_model_has_the_general_skills(tmp_path: Path) -> None:
    assert (SHIPPED / "model.safetensors").stat().st_size <= 4_000_000
    overrides = [
        "experiment=bench/demo",
        "+phase=mix",
        "limits.steps_per_phase=1",
        f"data.root={tmp_path}/data",
        f"data.cache_dir={tmp_path}/cache",
        f"output_dir={tmp_path}/run",
        "data.benchmark.multiplier=0.1",
        "data.benchmark.eval_rows=120",
        "evaluation.at_phase_end=false",
        "checkpoint=none",
        "cluster.threads_per_rank=1",
    ]
    train(composed(overrides))
    assert general_accuracy(tmp_path / "run", "general") > 0.8
    # It knows no task yet: what the demo shows is learned in the demo.
    assert general_accuracy(tmp_path / "run", "translation") == 0
