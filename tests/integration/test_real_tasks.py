"""Ten real tasks in two languages, a real pretrained model and a real tokenizer, under ``deepspeed``.

Shortened: a few steps a phase. The data, the model and the tokenizer are looked for under
``POLYPHASE_SHARED``; without them the tests skip and say so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from launching import REPOSITORY, steps_of

from tests.shared_data import shared
from tests.shared_port import free_port

MODELS = {
    "stories": ("models/stories260K/hf", "model=hf", "model.path"),
    "tiny": ("tokenizers/minimind/model", "model=tiny", "model.tokenizer"),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_task_improves(name: str, tmp_path: Path) -> None:
    folder, group, key = MODELS[name]
    command = [
        str(Path(sys.executable).with_name("deepspeed")),
        "--num_gpus=2",
        f"--master_port={free_port()}",
        "launch/train.py",
        "experiment=ten_tasks/stories",
        group,
        f"{key}={shared(folder)}",
        f"data.root={shared('data/ten_tasks')}",
        f"data.cache_dir={tmp_path}/cache",
        f"output_dir={tmp_path}/run",
        "limits.steps_per_phase=10",
        "evaluation.rows_per_task=5",
        # ten steps are too few for the curriculum's own 2e-4 on random weights
        "curriculum.phases.mix.lr=2e-3",
    ]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=500,  # a busy machine is no failure
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = tmp_path / "run"

    def losses(path: str) -> dict[str, float]:
        tasks = json.loads((run / path).read_text(encoding="utf-8"))["tasks"]
        return {task: result["loss"] for task, result in tasks.items()}

    before, after = losses("initial/evaluation.json"), losses("phases/hard/evaluation.json")
    assert len(before) == 10
    for task, loss in after.items():
        assert loss < before[task], task
    assert [entry["phase"] for entry in steps_of(run)][::10] == ["mix", "specialize", "hard"]
    assert "open_chat (general)" in done.stdout
