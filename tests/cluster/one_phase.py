"""A run of one phase, for tests of where its ranks run."""

from __future__ import annotations

from pathlib import Path

STEPS = 24


def overrides(root: Path, output: Path) -> list[str]:
    """One phase of a small model, from data in ``root``, with a checkpoint every few steps."""
    return [
        *("model=bench_scratch", "zero=zero2", "precision=fp32", "evaluation=none"),
        *("+phase=mix", "interference=none", "checkpoint.every_steps=4"),
        "model.architecture.hidden_size=32",
        "model.architecture.intermediate_size=64",
        "model.architecture.num_hidden_layers=2",
        "model.architecture.attention_dropout=0.1",
        *("global_batch_size=8", "micro_batch_size=1", f"limits.steps_per_phase={STEPS}"),
        *(f"data.root={root}/data", f"data.cache_dir={root}/cache", "data.max_seq_len=96"),
        *("data.benchmark.multiplier=0.5", "data.benchmark.general_rows=60"),
        "data.benchmark.eval_rows=2",
        *("cluster.threads_per_rank=1", "logging.console_seconds=1000"),
        f"output_dir={output}",
    ]
