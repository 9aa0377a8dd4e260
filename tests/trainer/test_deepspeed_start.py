"""What makes DeepSpeed's start slow or hang is kept from it, or said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.config.schema import ZeroConfig
from trainer.deepspeed_start import ABANDONED_SECONDS, lock_faults

QUANTISED = ZeroConfig(stage=3, quantized_weights=True)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    path = tmp_path / "py311_cu130" / "quantizer" / "lock"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_a_lock_that_a_killed_build_left_is_named(lock: Path) -> None:
    later = time.time() + ABANDONED_SECONDS + 61
    (fault,) = lock_faults(QUANTISED, later)
    assert str(lock) in fault.seen
    assert "16 minutes" in fault.seen
    assert f"rm {lock}" in fault.remedy


def test_a_build_that_is_running_is_waited_for(lock: Path) -> None:
    start = time.time()
    written = start + ABANDONED_SECONDS
    part = lock.parent / "quantizer.o"
    part.touch()
    os.utime(part, (written, written))
    assert list(lock_faults(QUANTISED, written + 60)) == []
    assert list(lock_faults(QUANTISED, written + ABANDONED_SECONDS + 1)) != []


def test_a_run_that_needs_no_extension_does_not_mind(lock: Path) -> None:
    assert lock.exists()
    assert list(lock_faults(ZeroConfig(stage=3), time.time() + 10 * ABANDONED_SECONDS)) == []


def test_the_place_is_where_pytorch_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.cpp_extension import _get_build_directory

    for variable, value in (("XDG_CACHE_HOME", tmp_path), ("TORCH_EXTENSIONS_DIR", tmp_path / "x")):
        monkeypatch.setenv(variable, str(value))
        folder = Path(_get_build_directory("quantizer", verbose=False))
        (folder / "lock").touch()
        later = time.time() + 2 * ABANDONED_SECONDS
        assert str(folder / "lock") in [
            fault.seen.split(",")[0] for fault in lock_faults(QUANTISED, later)
        ]


ENGINES = """
import sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from data_modules.collate import collate
from tests.shared_data import made_store
from trainer import attention, distributed
from trainer.config.schema import Config, Precision
from trainer.distributed import Ranks
from trainer.engine import ZeroEngine
from trainer.loss import SupervisedHead
import numpy as np

device = distributed.init(Config().cluster, Ranks(0, 1, 0, 1))
for stage, precision in ((1, "fp32"), (1, "bf16"), (2, "fp32"), (3, "fp32"), (3, "bf16")):
    described = AutoConfig.for_model(
        "llama", vocab_size=300000, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1)
    model = AutoModelForCausalLM.from_config(
        described, dtype=torch.float32, attn_implementation=attention.NAME)
    SupervisedHead.adopt(model.get_output_embeddings())
    config = Config(precision=Precision[precision])
    config.zero.stage = stage
    engine = ZeroEngine(model, 1, config, device, 1)
    store = made_store({"qa": [6, 9]})
    batch = collate(store, np.array([0, 1]), np.array([0.1, 0.1]), 0, packing=True)
    figures = engine.train_step([batch], 1e-3).read()
    loaded = "torch._inductor.select_algorithm" in sys.modules
    print("\\nengine", stage, precision, figures.loss > 0, loaded)
"""


def test_every_engine_starts_and_steps_without_loading_the_compiler(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "PYTHONPATH": str(root)}
    seen = subprocess.run(
        [sys.executable, "-c", ENGINES],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert seen.returncode == 0, seen.stderr[-3000:]
    kinds = ("1 fp32", "1 bf16", "2 fp32", "3 fp32", "3 bf16")
    lines = [line for line in seen.stdout.splitlines() if line.startswith("engine")]
    assert lines == [f"engine {kind} True False" for kind in kinds]


def test_training_starts_without_what_it_does_not_need() -> None:
    """Each of these takes seconds to import, and none is needed for a first step."""
    code = (
        "import sys, trainer.train, deepspeed\n"
        "print([name for name in ('sklearn', 'pandas', 'matplotlib', 'wandb', 'datasets', 'optuna',"
        " 'torch._inductor.select_algorithm') if name in sys.modules])"
    )
    environment = os.environ | {"DS_ACCELERATOR": "cpu"}
    seen = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert seen.stdout.splitlines()[-1] == "[]"
