"""A vetoed step changes nothing, to the last bit: every ZeRO stage, precision, offload, on two ranks.

Three faults: a loss that is NaN on one rank, an infinite gradient on one rank under finite losses, and
a loss above the limit that the host gave. Behind it, training goes on as if it had never been there.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shared_data import REPOSITORY

HERE = Path(__file__).resolve().parent
FAULTS = ("loss_is_nan", "gradient_is_inf", "loss_jumps")
#: stage, precision, offload, max_grad_norm, good steps before the bad one; DeepSpeed's optimizer
CASES: list[tuple[int, str, str, float, int, str]] = [
    (0, "fp32", "none", 1.0, 1, "AdamW"),
    (0, "fp32", "none", 0.0, 0, "AdamW"),
    (1, "fp32", "none", 1.0, 1, "DeepSpeedZeroOptimizer"),
    (1, "bf16", "none", 1.0, 0, "BF16_Optimizer"),
    (1, "bf16", "cpu", 1.0, 1, "DeepSpeedZeroOptimizer"),
    (2, "fp32", "none", 1.0, 0, "DeepSpeedZeroOptimizer"),
    (2, "bf16", "none", 1.0, 1, "DeepSpeedZeroOptimizer"),
    (2, "bf16", "none", 0.0, 2, "DeepSpeedZeroOptimizer"),
    (2, "fp32", "cpu", 1.0, 1, "DeepSpeedZeroOptimizer"),
    (2, "bf16", "cpu", 1.0, 1, "DeepSpeedZeroOptimizer"),
    (3, "fp32", "none", 1.0, 1, "DeepSpeedZeroOptimizer_Stage3"),
    (3, "bf16", "none", 1.0, 0, "DeepSpeedZeroOptimizer_Stage3"),
    (3, "bf16", "cpu", 1.0, 1, "DeepSpeedZeroOptimizer_Stage3"),
]
NAMES = ("stage", "precision", "offload", "max_grad_norm", "place")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What every rank found, case by case, in one launch."""
    root = tmp_path_factory.mktemp("veto")
    given, made = root / "cases.json", root / "results.json"
    cases = [dict(zip(NAMES, case[:-1], strict=True)) for case in CASES]
    given.write_text(json.dumps(cases), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*command, str(HERE / "veto_worker.py"), str(given), str(made)],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return json.loads(made.read_text(encoding="utf-8"))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=["-".join(map(str, c[:-1])) for c in CASES]
)
def test_nothing_changes_and_training_goes_on(
    results: list[list[dict[str, Any]]], number: int, fault: str
) -> None:
    ranks = results[number]
    assert len(ranks) == 2
    for found in ranks:
        assert found["kind"] == CASES[number][-1]
        assert found["moves"], "good steps do change what is compared"
        assert found[fault]["kept"], "weights, master weights, moments and step counts"
        assert found[fault]["same"], "the steps behind it are those of a run without it"
    # All ranks are told the same, and that it is so.
    (*_, loss, norm, skipped), (*_, other_loss, other_norm, other_skipped) = (
        found[fault]["figures"] for found in ranks
    )
    assert skipped is other_skipped is True
    assert math.isnan(loss) == math.isnan(other_loss) == (fault == "loss_is_nan")
    assert math.isfinite(norm) == math.isfinite(other_norm) == (fault == "loss_jumps")
