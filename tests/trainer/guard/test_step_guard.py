"""The guard at work: the rows behind a bad step, its line in ``faults.jsonl``, and what is said."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from data_modules.mixture import MixtureConfig
from data_modules.phase_data_module import PhaseDataModule
from tests.data_modules.prepare.made_data import prepared, row, write_data
from trainer import attention, exit_codes
from trainer.config.schema import Config, OnNonFinite, OnSpike, PhaseConfig
from trainer.curriculum import Phase
from trainer.engine import StepFigures
from trainer.evaluation.model import LoadedModel
from trainer.faults import TrainingFault
from trainer.guard.guard import Action
from trainer.guard.loss_history import FIRST_STEPS
from trainer.guard.rows import step_rows, suspects
from trainer.guard.step_guard import StepGuard
from trainer.loss import SupervisedHead

BATCH = 8
TOKENS = {"code": 40, "qa": 40}
PHASE = Phase("mix", 101, 103, PhaseConfig())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PhaseDataModule:
    """Three steps of eight rows; a single row, with its own id, has the letter Z."""
    rows = {"code": [row(n) for n in range(12)], "qa": [row(n) for n in range(100, 112)]}
    rows["qa"][5] |= {"id": "the-odd-one", "output": "say Z"}
    made = prepared(
        write_data(tmp_path_factory.mktemp("guard"), rows), {"mix": MixtureConfig(epochs=1)}
    )
    assert made.plans["mix"].steps == PHASE.steps
    return made


def model_of(data: PhaseDataModule, poisoned: str = "") -> LoadedModel:
    """A small random model; it cannot represent ``poisoned``."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=len(data.tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention.NAME
    )
    SupervisedHead.adopt(model.get_output_embeddings())
    for token in data.tokenizer.encode(poisoned):
        model.get_input_embeddings().weight.data[token] = math.nan
    return LoadedModel(model, len(data.tasks), torch.device("cpu"), 1)


def guard_of(
    model: LoadedModel, data: PhaseDataModule, path: Path, rank: int = 0, **faults: Any
) -> StepGuard:
    config = Config(micro_batch_size=3)
    for name, value in faults.items():
        setattr(config.faults, name, value)
    return StepGuard(config, model, data, rank, path)


def figures(
    per_token: float = 1.0, loss: float | None = None, skipped: bool = False, norm: float = 1.0
) -> StepFigures:
    nll = [TOKENS[task] * per_token for task in sorted(TOKENS)]
    return StepFigures(
        nll, [0.0] * 2, [0.0] * 2, per_token if loss is None else loss, norm, skipped
    )


NOT_FINITE = figures(loss=math.nan, skipped=True, norm=math.inf)


def step_with_z(data: PhaseDataModule) -> int:
    """The phase's step that draws the odd row."""
    (letter,) = data.tokenizer.encode("Z")
    plan = data.plans["mix"]
    (index,) = [
        index
        for index in range(plan.steps)
        if any(letter in plan.store.tokens(int(one))[0] for one in plan.step_rows(index))
    ]
    return index


def lines(path: Path) -> list[dict[str, Any]]:
    """The file's objects; what is not JSON to the letter is refused."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    text = path.read_text(encoding="utf-8")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_rows_have_their_own_losses(data: PhaseDataModule) -> None:
    model = model_of(data)
    found = step_rows(model, data, "mix", 1, 3, 0)
    store, rows = data.plans["mix"].store, data.plans["mix"].step_rows(1)
    assert sorted(one.row for one in found) == sorted(rows.tolist())
    losses = [one.loss for one in found]
    assert losses == sorted(losses, reverse=True)
    for one in found:
        ids, supervised = store.tokens(one.row)
        tokens = torch.from_numpy(ids.astype("int64"))
        with torch.no_grad():
            log_p = model.causal_model(tokens[None]).logits[0, :-1].log_softmax(-1)
        nll = -log_p.gather(1, tokens[1:, None])[:, 0][torch.from_numpy(supervised[1:].copy())]
        assert one.loss == pytest.approx(float(nll.mean()), rel=1e-5)
        assert (one.tokens, one.task) == (len(nll), store.tasks[store.task_ids[one.row]])
        assert (one.source, one.negative) == ("main", False)
    assert suspects(found) == found, "none stands out"


def test_the_row_that_is_not_finite_is_named(
    data: PhaseDataModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index, path = step_with_z(data), tmp_path / "faults.jsonl"
    guard = guard_of(model_of(data, poisoned="Z"), data, path)
    with caplog.at_level(logging.WARNING, logger="polyphase"):
        found = guard.after_step(PHASE, 101 + index, NOT_FINITE, TOKENS, guard.limit_for(TOKENS))
    assert found is not None
    assert found.action is Action.skip
    (line,) = lines(path)
    (culprit,) = line.pop("rows")
    assert line == {
        "step": 101 + index,
        "phase": "mix",
        "kind": "non-finite loss",
        "action": "skip",
        "why": "the loss is nan",
        "stops_because": "",
        "pass_over": [],
        "loss": "nan",
        "grad_norm": "inf",
        "expected": None,
        "limit": None,
        "rows_of_step": BATCH,
    }
    assert (culprit["task"], culprit["source"], culprit["row_id"]) == ("qa", "main", "the-odd-one")
    assert culprit["origin"] == "train/qa.jsonl:6"
    assert (culprit["loss"], culprit["negative"]) == ("nan", False)
    (said,) = caplog.messages
    assert f"step {101 + index} (phase 'mix'), non-finite loss: the loss is nan" in said
    assert "left out, the model is as it was before" in said
    assert "qa the-odd-one (nan nats a token)" in said


def test_where_no_row_stands_out_all_are_written(
    data: PhaseDataModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "faults.jsonl"
    guard = guard_of(model_of(data), data, path, nonfinite=OnNonFinite.rollback)
    with caplog.at_level(logging.WARNING, logger="polyphase"):
        found = guard.after_step(
            PHASE, 102, figures(skipped=True, norm=math.inf), TOKENS, guard.limit_for(TOKENS)
        )
    assert found is not None
    assert (found.action, found.pass_over) == (Action.rollback, (101, 102))
    (line,) = lines(path)
    assert len(line["rows"]) == line["rows_of_step"] == BATCH
    assert (line["kind"], line["pass_over"]) == ("non-finite gradient", [101, 102])
    assert all(one["origin"] for one in line["rows"])
    (said,) = caplog.messages
    assert "No row of it by itself has a loss that is not finite" in said
    assert "and 3 more, in faults.jsonl" in said
    assert line["rows"][0]["row_id"] in said
    assert line["rows"][7]["row_id"] not in said


def test_a_stop_is_raised_on_every_rank(data: PhaseDataModule, tmp_path: Path) -> None:
    model, index = model_of(data, poisoned="Z"), step_with_z(data)
    for rank in (0, 1):
        path = tmp_path / f"faults{rank}.jsonl"
        guard = guard_of(model, data, path, rank, nonfinite=OnNonFinite.stop)
        with pytest.raises(TrainingFault) as caught:
            guard.after_step(PHASE, 101 + index, NOT_FINITE, TOKENS, guard.limit_for(TOKENS))
        assert caught.value.exit_code == exit_codes.TRAINING_FAULT
        assert "faults says that such a step ends the run" in str(caught.value)
        assert path.is_file() == (rank == 0), "one rank writes"
        if rank == 0:
            assert lines(path)[0]["action"] == "stop"
            assert "the-odd-one" in str(caught.value)
            assert "data.cleaning.drop" in str(caught.value)


def test_a_spike_is_written_with_its_limit(data: PhaseDataModule, tmp_path: Path) -> None:
    path = tmp_path / "faults.jsonl"
    guard = guard_of(model_of(data), data, path, spike=OnSpike.warn)
    for step in range(FIRST_STEPS):
        limit = guard.limit_for(TOKENS)
        assert guard.after_step(PHASE, 1 + step, figures(), TOKENS, limit) is None
    assert not path.exists()
    found = guard.after_step(PHASE, 103, figures(per_token=2.6), TOKENS, guard.limit_for(TOKENS))
    assert found is not None
    assert found.action is Action.warn
    (line,) = lines(path)
    assert (line["kind"], line["action"], line["loss"]) == ("loss spike", "warn", 2.6)
    assert (line["expected"], line["limit"]) == (pytest.approx(1.0), pytest.approx(2.5))
    assert len(line["rows"]) == BATCH
    losses = [one["loss"] for one in line["rows"]]
    assert losses == sorted(losses, reverse=True)


def test_it_goes_on_from_its_state(data: PhaseDataModule, tmp_path: Path) -> None:
    model, path = model_of(data), tmp_path / "faults.jsonl"
    first = guard_of(model, data, path)
    for step in range(FIRST_STEPS):
        first.after_step(PHASE, 1 + step, figures(), TOKENS, first.limit_for(TOKENS))
    second = guard_of(model, data, path)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.limit_for(TOKENS) == first.limit_for(TOKENS)
    second.roll_back(None)
    assert second.limit_for(TOKENS) != first.limit_for(TOKENS)
