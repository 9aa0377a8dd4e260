"""Soft crosstalk of models whose next token is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_modules.collate import Batch
from data_modules.evaluation_rows import EvalRow
from trainer.evaluation.soft_crosstalk import rate, soft_crosstalk

VOCABULARY = 12
TOKENIZER = SimpleNamespace(pad_token_id=0, eos_token_id=1)


class KnownModel:
    """Gives every prompt the probabilities that its last token has in ``table``."""

    world_size, tasks, gathers_weights = 1, 2, False
    device = torch.device("cpu")

    def __init__(self, table: dict[int, dict[int, float]]) -> None:
        self.table = table
        self.generation_config = SimpleNamespace()
        self.config = SimpleNamespace(_attn_implementation="before")

    @property
    def causal_model(self) -> Any:
        return self

    def eval(self) -> None:
        pass

    def nll(self, batch: Batch) -> torch.Tensor:
        raise NotImplementedError

    row_nll = nll

    def modules(self) -> list[Any]:
        return []

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        assert self.config._attn_implementation == "sdpa"
        assert torch.equal(attention_mask, (input_ids != 0).long())
        logits = torch.full((len(input_ids), VOCABULARY), -1e9)
        # tokens that no right answer begins with take most of the probability
        logits[:, 11] = 50.0
        for number, prompt in enumerate(input_ids[:, -1].tolist()):
            for token, p in self.table[prompt].items():
                logits[number, token] = float(np.log(p))
        new = torch.full((len(input_ids), 1), 11)
        return SimpleNamespace(sequences=torch.cat([input_ids, new], 1), logits=(logits,))


def row(task: str, asks: int, first: int, length: int = 2) -> EvalRow:
    """A request that ends on token ``asks``; the right answer begins with ``first``."""
    prompt = [9] * (length - 1) + [asks]
    ids = [*prompt, first, 1]
    mask = np.array([False] * len(prompt) + [True, True])
    return EvalRow(task, prompt, ids, mask, "", "", "", "en")


#: a begins with 5 or 6, b always with 6: P(a | 5) = 1, P(a | 6) = 1/3
ROWS = {
    "a": [row("a", 2, 5), row("a", 2, 6, length=5)],
    "b": [row("b", 3, 6), row("b", 3, 6, length=3)],
}


def measured(table: dict[int, dict[int, float]], batch: int = 3) -> dict[str, dict[str, float]]:
    return soft_crosstalk(KnownModel(table), TOKENIZER, ROWS, ["a", "b"], 10, batch, 0)


def test_a_model_with_the_spread_of_right_answers_leaks_nothing() -> None:
    found = measured({2: {5: 0.5, 6: 0.5}, 3: {6: 1.0}})
    for excess in found.values():
        assert excess == pytest.approx({"a": 0, "b": 0}, abs=1e-7)
    assert rate(found) == pytest.approx(0, abs=1e-7)


def test_a_leak_by_hand() -> None:
    # right: P(a) = .5 + .5/3 = 2/3 on a; P(a) = 1/3 on b
    found = measured({2: {6: 1.0}, 3: {5: 0.25, 6: 0.75}})
    assert found["a"] == pytest.approx({"a": 1 / 3 - 2 / 3, "b": 2 / 3 - 1 / 3}, abs=1e-6)
    assert found["b"]["a"] == pytest.approx(0.25 + 0.75 / 3 - 1 / 3, abs=1e-6)
    assert rate(found) == pytest.approx((1 / 3 + (0.25 + 0.25 - 1 / 3)) / 2, abs=1e-6)


def test_avoiding_shared_beginnings_is_no_leak() -> None:
    found = measured({2: {5: 1.0}, 3: {6: 1.0}})
    assert found["a"]["a"] == pytest.approx(1 - 2 / 3, abs=1e-6)
    assert rate(found) == pytest.approx(0, abs=1e-6)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(1, 5))
def test_rows_sum_to_zero_in_any_batches(p: float, q: float, batch: int) -> None:
    found = measured({2: {5: p, 6: 1 - p}, 3: {5: q, 6: 1 - q}}, batch)
    for excess in found.values():
        assert sum(excess.values()) == pytest.approx(0, abs=1e-9)
    # b's beginning is less b's than any other: its own excess cannot be above 0
    assert found["b"]["b"] == pytest.approx(-2 * q / 3, abs=1e-6)


def test_only_the_first_rows_are_asked_but_all_say_how_answers_begin() -> None:
    table = {2: {6: 1.0}, 3: {6: 1.0}}
    found = soft_crosstalk(KnownModel(table), TOKENIZER, ROWS, ["b"], 1, 4, 0)
    assert set(found) == {"b"}
    assert found["b"] == pytest.approx({"a": 0, "b": 0}, abs=1e-7)


def test_the_models_own_settings_are_put_back() -> None:
    model = KnownModel({2: {6: 1.0}, 3: {6: 1.0}})
    mine = model.generation_config = SimpleNamespace(repetition_penalty=2.0)
    soft_crosstalk(model, TOKENIZER, ROWS, ["a"], 1, 4, 0)
    assert model.generation_config is mine
    assert model.config._attn_implementation == "before"
