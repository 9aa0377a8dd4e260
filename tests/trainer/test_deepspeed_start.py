"""What makes DeepSpeed's start slow or hang is kept from it, or said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.config.schema import ZeroConfig
from trainer.deepspeed_start import ABANDONED_SECONDS, lock_faults, without_muon

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


@pytest.mark.parametrize("fails", [False, True])
def test_muon_can_be_imported_again(fails: bool) -> None:
    name = "deepspeed.runtime.zero.muon.muon_optimizer"
    before = sys.modules.pop(name, None)
    try:
        with pytest.raises(RuntimeError) if fails else without_muon():
            if fails:
                with without_muon():
                    raise RuntimeError
            with pytest.raises(ImportError):
                __import__(name)
        assert name not in sys.modules
    finally:
        if before is not None:
            sys.modules[name] = before


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
