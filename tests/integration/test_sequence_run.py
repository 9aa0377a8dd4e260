"""A whole run whose ranks share sequences: trained, probed, evaluated, exported as one whose do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kill_matrix import overrides
from launching import composed, metrics_of, steps_of, without_clocks
from rank_processes import NO_REPORT, RankProcesses
from safetensors.torch import load_file

STEPS = 4
SETTINGS = (
    *("+phase=specialize", "precision=fp32", f"limits.steps_per_phase={STEPS}", "adaptation=lora"),
    *("model.activation_checkpointing=true", "interference.every_steps=3"),
    *("checkpoint.every_steps=null", "evaluation.every_steps=null"),
)


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, server: RankProcesses
) -> tuple[list[Path], list[str]]:
    """One run of whole sequences and one of shared ones, and what their main ranks wrote."""
    root = tmp_path_factory.mktemp("sequences")
    composed(overrides(root, "unused"))  # generates the data once
    made, words = [], []
    for name, more in (
        ("whole", ("zero=zero2",)),
        ("shared", ("zero=zero3", "sequence_parallel_size=2")),
    ):
        outcome = server.run(overrides(root, name, *SETTINGS, *more), act=NO_REPORT, timeout=300)
        assert set(outcome.codes.values()) == {0}, str(outcome)
        made.append(root / name)
        words.append(outcome.outputs[0])
    return made, words


def test_it_trains_and_evaluates_alike(runs: tuple[list[Path], list[str]]) -> None:
    whole, shared = (metrics_of(run) for run in runs[0])
    assert len(whole) == len(shared)
    for one, other in zip(shared, whole, strict=True):
        assert one.keys() == other.keys()
        for name in without_clocks(other):
            if isinstance(other[name], float):
                rel = 2e-3 if name == "grad_norm" else 5e-5
                assert one[name] == pytest.approx(other[name], rel=rel, abs=1e-7), name
            else:
                assert one[name] == other[name], name
    assert len(steps_of(runs[0][1])) == STEPS
    assert any(name.startswith("eval/loss/") for one in shared for name in one)
    assert "derived: 2 rank(s) in groups of 2, " in runs[1][1]


def test_probes_and_weights_are_alike(runs: tuple[list[Path], list[str]]) -> None:
    entries: list[dict[str, Any]] = [
        json.loads((run / "interference.jsonl").read_text(encoding="utf-8")) for run in runs[0]
    ]
    for name in ("norm", "loss"):
        assert entries[1][name] == pytest.approx(entries[0][name], rel=1e-3), name
    exported = [load_file(run / "phases/specialize/hf/model.safetensors") for run in runs[0]]
    assert exported[0].keys() == exported[1].keys()
    moved = 0.0
    for name, weights in exported[0].items():
        assert (exported[1][name] - weights).norm() < 1e-4 * weights.norm(), name
    adapters = [
        load_file(run / "phases/specialize/hf/adapter/adapter_model.safetensors") for run in runs[0]
    ]
    for name, weights in adapters[0].items():
        if "lora_B" in name:  # zero before training
            moved += float(weights.norm())
            assert (adapters[1][name] - weights).norm() < 2e-2 * weights.norm(), name
    assert moved > 0
