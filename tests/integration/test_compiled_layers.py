"""Layers that torch.compile made train the model that PyTorch's own operations train, under ZeRO-2."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from launching import composed, steps_of
from rank_processes import RankProcesses
from safetensors.torch import load_file

STEPS = 4


def overrides(root: Path, kernels: str) -> list[str]:
    return [
        "+phase=mix",
        f"kernels={kernels}",
        "model=bench_scratch",
        "model.architecture.num_hidden_layers=2",
        "precision=fp32",
        "zero.stage=2",
        "global_batch_size=8",
        "data.max_seq_len=96",
        f"data.root={root}/data",
        f"data.cache_dir={root}/cache",
        "data.benchmark.multiplier=0.5",
        "data.benchmark.general_rows=100",
        "data.benchmark.eval_rows=4",
        f"output_dir={root}/{kernels}",
        "evaluation=none",
        "interference.every_steps=3",
        "interference.rows_per_task=2",
        "checkpoint=export_only",
        "cluster.threads_per_rank=1",
        "curriculum.phases.mix.epochs=null",
        f"curriculum.phases.mix.steps={STEPS}",
        "curriculum.phases.mix.lr=1e-3",
    ]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_equals_a_plain_one(tmp_path: Path, server: RankProcesses) -> None:
    cases = [overrides(tmp_path, kernels) for kernels in ("plain", "compiled")]
    composed(cases[0])  # generates the data
    file = tmp_path / "cases.json"
    file.write_text(json.dumps(cases), encoding="utf-8")
    outcome = server.run(
        cases[0],
        ranks=2,
        command="train_worker:command",
        environment={
            "TRAIN_CASES": str(file),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        },
        timeout=550,
    )
    assert set(outcome.codes.values()) == {0}, str(outcome)
    written = list((tmp_path / "inductor").rglob("*.cpp"))
    assert written, "torch.compile compiled nothing"
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    log = (compiled / "log" / "rank_0.log").read_text(encoding="utf-8")
    assert re.search(r"kernels: .*torch.compile each layer", log)
    assert len(steps_of(plain)) == STEPS
    for one, other in zip(steps_of(plain), steps_of(compiled), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=2e-3)
    weights = [load_file(run / "phases/mix/hf/model.safetensors") for run in (plain, compiled)]
    for name, tensor in weights[0].items():
        assert float((tensor - weights[1][name]).abs().max()) < 1e-4, name
    cosines = [
        json.loads((run / "interference.jsonl").read_text(encoding="utf-8").splitlines()[0])
        for run in (plain, compiled)
    ]
    assert cosines[0]["norm"] == pytest.approx(cosines[1]["norm"], rel=1e-3)
