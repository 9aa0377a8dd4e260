"""An engine's state is restored to the last bit, by any number of ranks under any ZeRO stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rank_processes import RankProcesses
from safetensors.torch import load_file
from test_run import overrides

Kind = dict[str, Any]

# What two ranks train and save.
KINDS: dict[str, Kind] = {
    "0": {"stage": 0, "precision": "fp32"},
    "1": {"stage": 1, "precision": "fp32"},
    "2": {"stage": 2, "precision": "fp32"},
    "3": {"stage": 3, "precision": "fp32"},
    "1-bf16": {"stage": 1, "precision": "bf16"},
    "2-bf16": {"stage": 2, "precision": "bf16"},
    "3-bf16": {"stage": 3, "precision": "bf16"},
    "2-bf16-offload": {"stage": 2, "precision": "bf16", "offload": True},
    "3-bf16-offload": {"stage": 3, "precision": "bf16", "offload": True},
    "0-lora": {"stage": 0, "precision": "fp32", "lora": True},
    "2-bf16-lora": {"stage": 2, "precision": "bf16", "lora": True},
    "3-bf16-lora": {"stage": 3, "precision": "bf16", "lora": True},
    "3-sequence": {"stage": 3, "precision": "fp32", "sequence": 2},
    "2-bf16-lora-sequence": {"stage": 2, "precision": "bf16", "lora": True, "sequence": 2},
    "3-hpz": {"stage": 3, "precision": "fp32", "hpz": 2},
    "3-bf16-lora-hpz": {"stage": 3, "precision": "bf16", "lora": True, "hpz": 2},
    "3-bf16-offload-hpz": {"stage": 3, "precision": "bf16", "offload": True, "hpz": 2},
}
# Another kind of the same training, chosen so that every stage reads every other's.
OTHERS: dict[str, list[str]] = {
    "0": ["1", "2", "3"],
    "1": ["0"],
    "2": ["3"],
    "3": ["0", "2"],
    "1-bf16": ["2-bf16", "3-bf16"],
    "2-bf16": ["1-bf16", "2-bf16-offload"],
    "3-bf16": ["1-bf16", "2-bf16"],
    "2-bf16-offload": ["3-bf16-offload"],
    "3-bf16-offload": ["3-bf16"],
    "2-bf16-lora": ["3-bf16-lora"],
    "3-bf16-lora": ["2-bf16-lora"],
}
SAME = [(kind, kind, 2) for kind in KINDS]
MOVES = [
    *((kind, into, 2) for kind, others in OTHERS.items() for into in others),
    *((kind, kind, 1) for kind, one in KINDS.items() if not {"sequence", "hpz"} & one.keys()),
    *((kind, kind, 4) for kind in ("1-bf16", "2-bf16", "3", "3-bf16-offload")),
    ("3", "0", 1),
    ("3-bf16-lora", "2-bf16-lora", 1),
    ("2", "3", 4),
    ("2-bf16-lora", "3-bf16-lora", 4),
    # between whole and shared sequences, and between one partition and several
    ("2", "3-sequence", 4),
    ("3-sequence", "0", 1),
    ("3-sequence", "3-hpz", 4),
    ("2-bf16-lora-sequence", "3-bf16-lora", 1),
    ("3-hpz", "3-hpz", 4),
    ("3-bf16-lora-hpz", "2-bf16-lora", 1),
    ("3-bf16-lora-hpz", "3-bf16-lora-hpz", 4),
]
# Gradients are summed in another order. Measured on the figures of the next steps: 1e-7 and 4e-4.
TOLERANCE = {"fp32": 1e-6, "bf16": 2e-3}
MOMENT_TOLERANCE = {
    "fp32": 1e-4,
    "bf16": 0.1,
}  # of the greatest; those of other places differ by all


def name_of(into: str, ranks: int) -> str:
    return f"into_{into}_on_{ranks}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, server: RankProcesses) -> Path:
    """Every kind saved by two ranks, then restored in all ways, in one launch per number of ranks."""
    made = tmp_path_factory.mktemp("elastic")
    jobs: dict[int, list[dict[str, Any]]] = {2: [], 1: [], 4: []}
    for kind in KINDS:
        (made / kind).mkdir()
        jobs[2].append({"kind": KINDS[kind], "folder": str(made / kind)})
    for kind, into, ranks in SAME + MOVES:
        job = {"into": KINDS[into], "folder": str(made / kind), "name": name_of(into, ranks)}
        jobs[ranks].append(job)
    for ranks, some in jobs.items():
        (made / "jobs.json").write_text(json.dumps(some), encoding="utf-8")
        outcome = server.run(
            overrides(made, "unused"),
            ranks=ranks,
            command="elastic_worker:command",
            environment={"ELASTIC_JOBS": str(made / "jobs.json")},
            timeout=500,
        )
        assert set(outcome.codes.values()) == {0}, str(outcome)
    return made


def seen(root: Path, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / kind / f"{name}.json").read_text())
    return found


def state(root: Path, kind: str, name: str) -> dict[str, list[int]]:
    """Every tensor's bits."""
    tensors = load_file(root / kind / f"{name}.safetensors")
    return {key: tensor.view(torch.int32).tolist() for key, tensor in tensors.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_saved_masters_are_the_weights_that_the_model_computes_with(root: Path, kind: str) -> None:
    """Were names or places mixed up alike in writing and reading, only this would tell."""
    found = load_file(root / kind / "saved.safetensors")
    masters = {key.partition(":")[2]: one for key, one in found.items() if key.startswith("fp32:")}
    dtype = getattr(torch, {"fp32": "float32", "bf16": "bfloat16"}[KINDS[kind]["precision"]])
    assert len(masters) > 10
    for name, master in masters.items():
        assert torch.equal(master.to(dtype).float(), found[f"computed:{name}"]), name
        assert (found[f"exp_avg_sq:{name}"] > 0).any(), name
    assert seen(root, kind, "saved")["adam_step"] == 3


@pytest.mark.parametrize("kind", KINDS)
def test_saved_moments_are_those_of_another_stage(root: Path, kind: str) -> None:
    """All stages train the same; stage 0 has one tensor a parameter, and stage 3 DeepSpeed's word."""
    one = KINDS[kind]
    plain = {"fp32": "0", "bf16": "3-bf16"}[one["precision"]] + ("-lora" if one.get("lora") else "")
    found, expected = (load_file(root / name / "saved.safetensors") for name in (kind, plain))
    assert found.keys() == expected.keys()
    tolerance = MOMENT_TOLERANCE[one["precision"]]
    for moment in ("exp_avg", "exp_avg_sq"):
        keys = [key for key in found if key.startswith(f"{moment}:")]
        greatest = max(float(expected[key].abs().max()) for key in keys)
        for key in keys:
            # A parameter without a gradient, as a key's bias is, has noise that nobody can compare.
            scale = max(float(expected[key].abs().max()), 1e-3 * greatest)
            assert torch.allclose(found[key], expected[key], rtol=0, atol=tolerance * scale), key


@pytest.mark.parametrize(("kind", "into", "ranks"), SAME, ids=KINDS)
def test_the_same_kind_goes_on_to_the_last_bit(
    root: Path, kind: str, into: str, ranks: int
) -> None:
    name = name_of(into, ranks)
    assert state(root, kind, name) == state(root, kind, "saved")
    assert seen(root, kind, name) == seen(root, kind, "saved")


@pytest.mark.parametrize(("kind", "into", "ranks"), MOVES)
def test_any_other_takes_all_of_it_over(root: Path, kind: str, into: str, ranks: int) -> None:
    name = name_of(into, ranks)
    assert state(root, kind, name) == state(root, kind, "saved")
    before, after = seen(root, kind, "saved"), seen(root, kind, name)
    assert after["adam_step"] == before["adam_step"]
    assert after["frozen"][0] == before["frozen"][0]
    tolerance = TOLERANCE[KINDS[kind]["precision"]]
    for one, other in zip(before["figures"], after["figures"], strict=True):
        # nll, probabilities and tokens by task; loss; gradient norm
        assert [len(one[n]) for n in range(3)] == [len(other[n]) for n in range(3)]
        flat, flat_other = (np.hstack([*step[:3], *step[3:]]) for step in (one, other))
        assert flat_other == pytest.approx(flat, rel=tolerance, abs=tolerance)


def test_the_checksum_of_frozen_weights(root: Path) -> None:
    """The same under any stage and number of ranks; another for other weights, or the same ones swapped."""
    for precision in ("fp32", "bf16"):
        sums = {
            tuple(seen(root, kind, name)["frozen"])
            for kind in KINDS
            if KINDS[kind].get("lora") and KINDS[kind]["precision"] == precision
            for name in [
                "saved",
                *(name_of(into, n) for one, into, n in SAME + MOVES if one == kind),
            ]
        }
        ((plain, changed, swapped, again),) = sums
        assert plain == again
        assert len({plain, changed, swapped}) == 3
    whole = {
        tuple(seen(root, kind, "saved")["frozen"]) for kind in KINDS if not KINDS[kind].get("lora")
    }
    assert whole == {(0,)}
