"""Unlikelihood through the engine is the plain PyTorch one: any ranks, ZeRO stage, layout, slices.

Eighteen steps under the three normalisations, among them steps without negatives, of negatives
alone, and with negatives of a task that has no positive there.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from engine_worker import ALPHAS, LR, NEGATIVE_WEIGHT, STEPS, STORE, small_model
from rank_processes import RankProcesses
from test_run import overrides

CASES = {
    ranks: [
        {"stage": stage, "micro": micro, "packing": packing}
        for stage, micro, packing in [
            (0, 1, True),
            (0, 13, False),
            (2, 2, False),
            (2, 1, True),
            (3, 1, True),
            (3, 3, False),
        ]
    ]
    for ranks in (1, 2)
}
# The model has four heads and two for keys and values: four ranks get copies of the latter.
CASES[2] += [
    {"stage": 3, "micro": 1, "packing": True, "sequence": 2, "checkpointing": True},
    {"stage": 1, "micro": 3, "packing": False, "sequence": 2},
]
CASES[4] = [
    {"stage": 0, "micro": 1, "packing": True, "sequence": 2},
    {"stage": 3, "micro": 2, "packing": True, "sequence": 2},
    {"stage": 2, "micro": 1, "packing": True, "sequence": 4, "checkpointing": True},
]
EVERY = [(ranks, number) for ranks, cases in CASES.items() for number in range(len(cases))]
TASKS = len(STORE.tasks)


def reference(negative_weight: float) -> tuple[list[list[Any]], dict[str, list[float]]]:
    """Row by row through Hugging Face's own model and autograd; the loss written out by hand.

    Returns:
        Every step's figures, and the last weights.
    """
    torch.set_num_threads(1)
    model = small_model("eager")
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=LR,
        betas=(0.9, 0.95),
    )
    curve = []
    for normalization, rows in STEPS:
        answers = []  # (task, sign, log p of every supervised token)
        for row in rows:
            ids, supervised = STORE.tokens(row)
            tokens = torch.from_numpy(ids.astype(np.int64))
            log_p = model(tokens[None]).logits[0, :-1].log_softmax(-1)
            log_p = log_p.gather(1, tokens[1:, None])[:, 0][torch.from_numpy(supervised[1:].copy())]
            answers.append((int(STORE.task_ids[row]), int(STORE.signs[row]), log_p))
        loss = by_hand(normalization, answers, negative_weight)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        nll, p, count = np.zeros(TASKS), np.zeros(TASKS), np.zeros(TASKS)
        for task, sign, log_p in answers:
            if sign > 0:
                nll[task] -= float(log_p.detach().sum())
            else:
                p[task] += float(log_p.detach().exp().sum())
                count[task] += len(log_p)
        curve.append([nll.tolist(), p.tolist(), count.tolist(), loss.item(), float(norm)])
    return curve, {name: one.flatten().tolist() for name, one in model.named_parameters()}


def by_hand(
    normalization: str, answers: list[tuple[int, int, torch.Tensor]], negative_weight: float
) -> torch.Tensor:
    """The step's loss."""
    alpha = [ALPHAS.get(task, 1.0) for task in STORE.tasks]
    # what a step of negatives alone is normalised by
    counted = [one for one in answers if one[1] > 0] or answers
    tokens = [sum(len(log_p) for task, _, log_p in counted if task == i) for i in range(TASKS)]
    total = torch.zeros(())
    for task, sign, log_p in answers:
        if normalization == "token":
            weight = alpha[task] / sum(alpha[i] * tokens[i] for i in range(TASKS))
        elif normalization == "sample":
            weight = alpha[task] / len(log_p) / sum(alpha[i] for i, _, _ in counted)
        else:
            present = [one for one in tokens if one]
            weight = alpha[task] / (tokens[task] or sum(present) / len(present)) / sum(alpha)
        if sign > 0:
            total = total - weight * log_p.sum()
        else:
            total = total - negative_weight * weight * torch.log(1 - log_p.exp()).sum()
    return total


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, server: RankProcesses
) -> dict[int, list[Any]]:
    """Ranks -> the curve of each case, one launch per world size."""
    root = tmp_path_factory.mktemp("negatives")
    found = {}
    for ranks, cases in CASES.items():
        given, made = root / f"cases{ranks}.json", root / f"results{ranks}.json"
        given.write_text(json.dumps(cases), encoding="utf-8")
        outcome = server.run(
            overrides(root, "unused"),
            ranks=ranks,
            command="engine_worker:command",
            environment={"ENGINE_CASES": str(given), "ENGINE_RESULTS": str(made)},
            timeout=500,
        )
        assert set(outcome.codes.values()) == {0}, str(outcome)
        found[ranks] = json.loads(made.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def expected() -> tuple[list[list[Any]], dict[str, list[float]]]:
    return reference(NEGATIVE_WEIGHT)


@pytest.mark.parametrize(("ranks", "number"), EVERY)
def test_equals_plain_pytorch(
    results: dict[int, list[Any]],
    expected: tuple[list[list[Any]], dict[str, list[float]]],
    ranks: int,
    number: int,
) -> None:
    curve, (wanted_curve, _) = results[ranks][number]["figures"], expected
    assert len(curve) == len(wanted_curve) == 18
    for got, wanted in zip(curve, wanted_curve, strict=True):
        for name, one, other in zip(
            ("nll", "negative_p", "negative_tokens", "loss"), got[:-1], wanted[:-1], strict=True
        ):
            assert one == pytest.approx(other, rel=2e-5, abs=1e-6), name
        assert got[-1] == pytest.approx(wanted[-1], rel=2e-3)


@pytest.mark.parametrize(("ranks", "number"), EVERY)
def test_the_weights_are_plain_pytorch_s(
    results: dict[int, list[Any]],
    expected: tuple[list[list[Any]], dict[str, list[float]]],
    ranks: int,
    number: int,
) -> None:
    weights, wanted = results[ranks][number]["weights"], expected[1]
    assert weights.keys() == wanted.keys()
    for name in wanted.keys() - {f"model.layers.{n}.self_attn.k_proj.bias" for n in range(2)}:
        # a key's bias has no gradient but noise, which Adam blows up
        one, other = np.array(weights[name]), np.array(wanted[name])
        assert np.linalg.norm(one - other) < 1e-3 * np.linalg.norm(other), name


def test_the_negatives_matter(
    expected: tuple[list[list[Any]], dict[str, list[float]]],
) -> None:
    # Agreement on a term too small to see would say nothing. Step 12 has the whole store.
    curve, (without, _) = expected[0], reference(0.0)
    with_them, alone = (sum(one[12][1]) for one in (curve, without))
    assert with_them < 0.95 * alone
    assert curve[3][4] > 1e-2, "a step of negatives alone has a gradient"
    assert without[3][4] == 0.0
