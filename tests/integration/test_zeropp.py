"""ZeRO++ on four CPU ranks that take themselves for two hosts.

hpZ computes what plain stage 3 does, to the last bit. The quantisers are CUDA kernels: without them a run
is refused; what reaches them is held by a stand-in (see :mod:`zeropp_acts`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kill_matrix import overrides
from launching import composed, metrics_of, steps_of, without_clocks
from rank_processes import NO_REPORT, Outcome, RankProcesses
from safetensors.torch import load_file

STEPS = 4
HPZ = ("zero=zeropp", "zero.hpz_partition_size=2")
ALL_PARTITIONED = ("zeropp_acts:all_partitioned", {})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("zeropp")
    composed(overrides(made, "unused"))  # generates the data once
    return made


def trained(
    server: RankProcesses, root: Path, name: str, *more: str, stand_in: bool = False
) -> Outcome:
    """One phase, measured in its middle and evaluated at its end, exported."""
    acts = [NO_REPORT, ALL_PARTITIONED]
    if stand_in:
        acts.append(("zeropp_acts:stand_in", {"path": str(root / name)}))
    settings = [
        *(
            "+phase=specialize",
            "precision=bf16",
            f"limits.steps_per_phase={STEPS}",
            "checkpoint.every_steps=null",
        ),
        *("evaluation.every_steps=null", "interference.every_steps=3", "micro_batch_size=1"),
    ]
    return server.run(
        overrides(root, name, *settings, *more),
        ranks=4,
        ranks_per_host=2,
        act=acts,
        environment={"LOCAL_SIZE": "2"},  # DeepSpeed's count of devices of a host without GPUs
        timeout=300,
    )


@pytest.fixture(scope="module")
def plain(server: RankProcesses, root: Path) -> Path:
    """A run of plain stage 3."""
    outcome = trained(server, root, "plain", "zero=zero3")
    assert set(outcome.codes.values()) == {0}, str(outcome)
    return root / "plain"


def without_times(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [without_clocks(one) for one in entries]


def test_hpz_changes_no_value(server: RankProcesses, root: Path, plain: Path) -> None:
    outcome = trained(server, root, "hpz", *HPZ)
    assert set(outcome.codes.values()) == {0}, str(outcome)
    hpz = root / "hpz"
    assert len(steps_of(hpz)) == STEPS
    assert any("eval/loss/qa" in key for one in metrics_of(hpz) for key in one)
    assert without_times(metrics_of(hpz)) == without_times(metrics_of(plain))
    probes = [
        [json.loads(line) for line in (run / "interference.jsonl").read_text().splitlines()]
        for run in (hpz, plain)
    ]
    assert len(probes[0]) == 1
    assert without_times(probes[0]) == without_times(probes[1])
    exported = [load_file(run / "phases/specialize/hf/model.safetensors") for run in (hpz, plain)]
    assert exported[0].keys() == exported[1].keys()
    for name, weights in exported[0].items():
        assert weights.equal(exported[1][name]), name


def test_quantisers_are_refused_without_a_gpu(server: RankProcesses, root: Path) -> None:
    asked = ("zero.quantized_weights=true", "zero.quantized_gradients=true")
    outcome = trained(server, root, "refused", *HPZ, *asked)
    assert set(outcome.codes.values()) == {2}, str(outcome)
    for name in ("quantized_weights", "quantized_gradients"):
        assert f"zero.{name}: true; DeepSpeed quantises by CUDA kernels" in outcome.outputs[0]


def test_what_reaches_the_quantisers(server: RankProcesses, root: Path, plain: Path) -> None:
    """The kernels read fp16 alone; both quantisers are at work, and training stays near the plain one."""
    asked = ("zero.quantized_weights=true", "zero.quantized_gradients=true")
    outcome = trained(server, root, "quantised", *HPZ, *asked, stand_in=True)
    assert set(outcome.codes.values()) == {0}, str(outcome)
    for rank in range(4):
        calls = json.loads((root / f"quantised.rank{rank}").read_text(encoding="utf-8"))
        assert calls["quantize8"] > 10 * STEPS
        assert calls["quantize4"] > 10 * STEPS
    got, wanted = steps_of(root / "quantised"), steps_of(plain)
    assert [one["tokens"] for one in got] == [one["tokens"] for one in wanted]
    for one, other in zip(got, wanted, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.2)
        assert one["loss"] != other["loss"], "they do quantise"
