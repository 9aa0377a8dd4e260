"""The estimate against what training really takes: two CPU ranks, and a GPU where there is one.

``benchmarks/memory_estimate.py`` does the same with a larger model and twenty configurations.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from launching import composed
from rank_processes import RankProcesses

from trainer.estimate.estimate import Estimate, Traced, Workload, estimate

# 34 million parameters: tensors outweigh what Python does meanwhile
MODEL = [
    "model.init=random",
    "model.architecture={model_type:llama,vocab_size:8192,hidden_size:640,intermediate_size:1280,"
    "num_hidden_layers:6,num_attention_heads:10,num_key_value_heads:10,tie_word_embeddings:false}",
    *("data.packing=true", "data.max_seq_len=64", "micro_batch_size=1", "global_batch_size=4"),
    *("zero.reduce_bucket_size=2_000_000", "zero.allgather_bucket_size=2_000_000"),
    *("checkpoint.sharded=false", "cluster.threads_per_rank=1"),
]


def overrides_of(folder: Path, *more: str) -> list[str]:
    # batches are made up: no data is needed
    places = [f"output_dir={folder / 'run'}", f"data.root={folder}", "data.benchmark=null"]
    return [*MODEL, *places, *more]


def estimated(overrides: list[str], ranks: int) -> Estimate:
    config = composed(overrides)
    return estimate(config, Traced(config, None, False), Workload.full(config), ranks, None)


@pytest.mark.parametrize(
    "settings",
    [("zero=zero2",), ("zero=zero3_offload", "checkpoint.sharded=true")],
    ids=["ZeRO-2", "ZeRO-3 with offload and a checkpoint"],
)
def test_two_ranks_take_what_was_estimated(
    settings: tuple[str, ...], server: RankProcesses, tmp_path: Path
) -> None:
    overrides = overrides_of(tmp_path, *settings)
    outcome = server.run(overrides, ranks=2, command="memory_worker:command", timeout=300)
    assert outcome.codes == {0: 0, 1: 0}, outcome
    measured = max(json.loads(one.read_text()) for one in (tmp_path / "run").glob("rank_*.json"))
    # without a GPU both parts of the estimate lie in the host's memory
    expected = estimated(overrides, 2).memory.worst.peak.total
    assert expected == pytest.approx(measured, rel=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_a_gpu_takes_what_was_estimated(zero: str, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU: the estimate of its memory is not measured here")
    from benchmarks.measured_memory import measure
    from trainer import distributed

    overrides = overrides_of(tmp_path, f"zero={zero}")
    config = composed(overrides)
    device = distributed.init(config.cluster, distributed.ranks_from_environment())
    try:
        measured = measure(config, device, 0, 1, tmp_path).resident
    finally:
        distributed.shutdown()
    assert estimated(overrides, 1).device.device_peak.total == pytest.approx(measured, rel=0.1)
