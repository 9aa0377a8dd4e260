"""Packing changes nothing: the same gradients as padded rows, and no sample that sees its neighbour.

Through the data module and the model as a run builds them, negatives included.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from launching import composed

from data_modules.collate import Batch
from data_modules.phase_data_module import PhaseDataModule
from trainer.attention import Segments
from trainer.config.schema import Config
from trainer.loss import NEGATIVE_TOKENS, MultiTaskLM
from trainer.model import load_model
from trainer.objective import row_weights
from trainer.train import make_data

# fp32 sums of some hundred thousand products in another order.
TOLERANCE = 2e-5
MIX = "curriculum.phases.mix"
STEPS = 3


def run_of(root: Path, packing: bool) -> Config:
    return composed(
        [
            *("+phase=mix", "model=bench_scratch", "precision=fp32", "global_batch_size=24"),
            *(f"data.root={root}/data", f"data.cache_dir={root}/cache", f"output_dir={root}/run"),
            f"data.packing={str(packing).lower()}",
            "data.max_seq_len=96",
            "data.benchmark.multiplier=0.5",
            "data.benchmark.general_rows=100",
            "data.benchmark.eval_rows=1",
            "data.negatives.cross_task=0.5",
            f"{MIX}.negatives={{share:0.5,weight:0.3,start:0.0}}",
            f"{MIX}.epochs=null",
            f"{MIX}.steps={STEPS}",
        ]
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


def prepared(root: Path, packing: bool) -> tuple[Config, PhaseDataModule]:
    config = run_of(root, packing)
    data = make_data(config, None)
    data.prepare()
    data.load()
    return config, data


@pytest.fixture(scope="module")
def padded(root: Path) -> tuple[Config, PhaseDataModule]:
    return prepared(root, packing=False)


@pytest.fixture(scope="module")
def packed(root: Path) -> tuple[Config, PhaseDataModule]:
    return prepared(root, packing=True)


@pytest.fixture(scope="module")
def model(packed: tuple[Config, PhaseDataModule]) -> MultiTaskLM:
    config, data = packed
    torch.set_num_threads(1)
    return MultiTaskLM(load_model(config.model, data.tokenizer, None, 0), len(data.tasks))


def batches_of(made: tuple[Config, PhaseDataModule], step: int, micro: int) -> list[Batch]:
    """One rank's micro-batches of a step, weighted as a run weights them."""
    config, data = made
    phase, plan = config.curriculum.phases["mix"], data.plans["mix"]
    rows = plan.step_rows(step)
    weights = row_weights(
        phase.loss_normalization,
        {"qa": 2.0},
        list(plan.use()),
        data.tasks,
        plan.store.task_ids[rows],
        plan.store.answer_tokens[rows],
        plan.store.signs[rows],
        phase.negatives.weight,
    )
    return data.step_batches("mix", step, weights, 0, 1, micro)


def outcome(model: MultiTaskLM, batches: list[Batch]) -> tuple[float, Any, dict[str, torch.Tensor]]:
    """Loss, sums per task and gradients of one step."""
    model.zero_grad()
    loss, sums = 0.0, torch.zeros(3, model.tasks, dtype=torch.float64)
    for batch in batches:
        value, of_batch = model(
            batch.input_ids,
            batch.labels,
            batch.position_ids,
            batch.loss_weights,
            batch.task_ids,
            batch.cu_seqlens,
        )
        value.backward()
        loss += value.item()
        sums += of_batch
    return loss, sums, {name: one.grad.clone() for name, one in model.named_parameters()}


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("step", range(STEPS))
def test_gradients_with_and_without_packing_are_equal(
    packed: tuple[Config, PhaseDataModule],
    padded: tuple[Config, PhaseDataModule],
    model: MultiTaskLM,
    step: int,
    micro: int,
) -> None:
    rows, one_by_one = batches_of(packed, step, micro), batches_of(padded, step, 1)
    assert max(len(batch.cu_seqlens) - 1 for batch in rows) >= 3, "rows are packed"
    assert all(batch.cu_seqlens is None and len(batch.input_ids) == 1 for batch in one_by_one)
    loss, sums, gradients = outcome(model, rows)
    expected_loss, expected_sums, expected = outcome(model, one_by_one)
    assert sums[NEGATIVE_TOKENS].sum() > 0
    assert loss == pytest.approx(expected_loss, rel=TOLERANCE)
    assert sums.flatten().tolist() == pytest.approx(expected_sums.flatten().tolist(), rel=TOLERANCE)
    for name, gradient in gradients.items():
        size = float(expected[name].norm())
        assert size > 0, name
        assert float((gradient - expected[name]).norm()) < TOLERANCE * size, name


def hidden_of(model: MultiTaskLM, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        states: torch.Tensor = model.causal_model.base_model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            use_cache=False,
            segments=Segments.of(batch.cu_seqlens),
        ).last_hidden_state[0]
    return states


@pytest.mark.parametrize("changed", ["first", "middle", "last"])
def test_a_changed_neighbour_changes_nothing(
    packed: tuple[Config, PhaseDataModule], model: MultiTaskLM, changed: str
) -> None:
    batch = max(batches_of(packed, 0, 1), key=lambda one: len(one.cu_seqlens))
    spans = [slice(a, b) for a, b in pairwise(batch.cu_seqlens.tolist())]
    assert len(spans) >= 3
    one = {"first": 0, "middle": len(spans) // 2, "last": len(spans) - 1}[changed]
    ids = batch.input_ids.clone()
    ids[0, spans[one]] = (ids[0, spans[one]] + 1) % model.causal_model.config.vocab_size
    other = replace(batch, input_ids=ids)
    before, after = hidden_of(model, batch), hidden_of(model, other)
    for number, span in enumerate(spans):
        assert torch.equal(before[span], after[span]) == (number != one), "bit by bit"

    # Without the borders between samples the change would be seen by those behind it.
    whole = torch.tensor([0, batch.input_ids.shape[1]], dtype=torch.int32)
    blind, seen = (hidden_of(model, replace(it, cu_seqlens=whole)) for it in (batch, other))
    for number, span in enumerate(spans):
        assert torch.equal(blind[span], seen[span]) == (number < one)


def test_both_layouts_train_on_the_same_plan(
    packed: tuple[Config, PhaseDataModule], padded: tuple[Config, PhaseDataModule]
) -> None:
    plans = [data.plans["mix"] for _, data in (packed, padded)]
    assert plans[0].fingerprint() == plans[1].fingerprint()
    assert np.array_equal(plans[0].rows, plans[1].rows)
    assert plans[0].steps == STEPS
