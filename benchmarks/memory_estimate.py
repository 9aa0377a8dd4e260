"""Estimated and measured peak memory of real training steps, side by side.

python benchmarks/memory_estimate.py --out /tmp/memory.json

Two CPU ranks train three steps of a Llama of some 69 million parameters, once for every case below, each in
processes of its own. Ranks without a GPU hold everything in the host's memory: the estimate is that of the
device and the host together. ``--tensors`` measures once more with PyTorch's own count of tensors. On a
machine with GPUs, ``--gpu`` trains one rank on the first and compares with what PyTorch's allocator held.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hydra import compose, initialize_config_dir

from launch.composing import addable
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config

REPOSITORY = Path(__file__).resolve().parents[1]
COMMON = (
    "model.init=random",
    "model.architecture={model_type:llama,vocab_size:8192,hidden_size:768,intermediate_size:2048,"
    "num_hidden_layers:8,num_attention_heads:12,num_key_value_heads:12,max_position_embeddings:4096,"
    "tie_word_embeddings:false}",
    # two rows of 128 tokens a micro-step, two micro-steps of two ranks
    *("data.packing=true", "data.max_seq_len=128", "micro_batch_size=2", "global_batch_size=8"),
    *("zero.reduce_bucket_size=5_000_000", "zero.allgather_bucket_size=5_000_000"),
    *("checkpoint.sharded=false", "cluster.threads_per_rank=1"),
)
LONG = ("data.max_seq_len=2048", "micro_batch_size=1", "global_batch_size=4")
OFFLOADED = ("zero.offload_optimizer=cpu",)
CASES: dict[str, tuple[str, ...]] = {
    "ZeRO-0 fp32": ("zero=zero0", "precision=fp32"),
    "ZeRO-1 fp32": ("zero=zero1", "precision=fp32"),
    "ZeRO-2 fp32": ("zero=zero2", "precision=fp32"),
    "ZeRO-3 fp32": ("zero=zero3", "precision=fp32"),
    "ZeRO-1 bf16": ("zero=zero1",),
    "ZeRO-2 bf16": ("zero=zero2",),
    "ZeRO-3 bf16": ("zero=zero3",),
    "ZeRO-1 bf16, optimizer offloaded": ("zero=zero1", *OFFLOADED),
    "ZeRO-2 bf16, optimizer offloaded": ("zero=zero2", *OFFLOADED),
    "ZeRO-2 fp32, optimizer offloaded": ("zero=zero2", "precision=fp32", *OFFLOADED),
    "ZeRO-3 bf16, optimizer offloaded": ("zero=zero3", *OFFLOADED),
    "ZeRO-3 bf16, optimizer and parameters offloaded": ("zero=zero3_offload",),
    "ZeRO-2 bf16, LoRA": ("zero=zero2", "adaptation=lora"),
    "ZeRO-3 bf16, LoRA": ("zero=zero3", "adaptation=lora"),
    "ZeRO-2 bf16, 2048 tokens": ("zero=zero2", *LONG),
    "ZeRO-2 bf16, 2048 tokens, activation checkpointing": (
        *("zero=zero2", "model.activation_checkpointing=true"),
        *LONG,
    ),
    "ZeRO-3 bf16, LoRA, 2048 tokens, activation checkpointing": (
        *("zero=zero3", "adaptation=lora", "model.activation_checkpointing=true"),
        *LONG,
    ),
    "ZeRO-2 bf16, small bucket": ("zero=zero2", "zero.reduce_bucket_size=1_000_000"),
    "ZeRO-2 bf16, one micro-step": ("zero=zero2", "global_batch_size=4"),
    "ZeRO-2 bf16, checkpoint": ("zero=zero2", "checkpoint.sharded=true"),
}


def config_of(overrides: tuple[str, ...]) -> Config:
    """The configuration of a case."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return to_config(compose("train", overrides=addable([*COMMON, *overrides])))


def estimated(config: Config, ranks: int, gpu: bool) -> int:
    """Bytes of the rank that needs most: on its GPU, or on device and host together."""
    from trainer.estimate.estimate import Traced, Workload, estimate

    found = estimate(config, Traced(config, None, False), Workload.full(config), ranks, None)
    return found.device.device_peak.total if gpu else found.memory.worst.peak.total


def worker(case: str, folder: Path, tensors: bool) -> None:
    """One rank: measure, and leave the figures in a file."""
    import torch

    from benchmarks.measured_memory import measure
    from trainer import distributed

    config = config_of(CASES[case])
    ranks = distributed.ranks_from_environment()
    torch.set_num_threads(1)
    device = distributed.init(config.cluster, ranks)
    found = measure(config, device, ranks.rank, ranks.world_size, folder, tensors)
    figures = {"resident": found.resident, "tensors": found.tensors}
    (folder / f"rank_{ranks.rank}.json").write_text(json.dumps(figures), encoding="utf-8")
    distributed.shutdown()


def measured(case: str, ranks: int, gpu: bool, tensors: bool) -> dict[str, int]:
    """The most of all ranks."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if not gpu:
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
        command += ["--standalone", __file__, "--worker", case, "--folder", folder]
        command += ["--tensors"] if tensors else []
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise RuntimeError(f"{case}: {ended.stderr[-3000:]}")
        found = [json.loads(path.read_text()) for path in Path(folder).glob("rank_*.json")]
    return {key: max(one[key] for one in found) for key in found[0] if found[0][key] is not None}


def main() -> None:
    """Measure all cases, or some, and print the table of docs/scaling.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of cases")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--again", type=Path, help="measured figures of an earlier --out")
    parser.add_argument("--tensors", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--worker")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.folder, options.tensors)
        return
    ranks = 1 if options.gpu else 2
    rows: list[dict[str, Any]] = []
    earlier = json.loads(options.again.read_text()) if options.again else []
    known = {one["case"]: one for one in earlier}
    for case, overrides in CASES.items():
        if options.only and not any(part in case for part in options.only):
            continue
        guess = estimated(config_of(overrides), ranks, options.gpu)
        if options.again and case not in known:
            continue
        if options.again:
            found = known[case]
        else:
            found = measured(case, ranks, options.gpu, False)
            if options.tensors and not options.gpu:
                found["tensors"] = measured(case, ranks, False, True)["tensors"]
        rows.append({"case": case, **found, "estimated": guess})
        print(line(rows[-1]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def line(row: dict[str, Any]) -> str:
    """A row of the table, in MB."""
    cells = [row["case"], f"{row['estimated'] / 1e6:,.0f}"]
    for key in ("resident", "tensors"):
        if key in row:
            error = row["estimated"] / row[key] - 1
            cells += [f"{row[key] / 1e6:,.0f}", f"{error:+.1%}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
