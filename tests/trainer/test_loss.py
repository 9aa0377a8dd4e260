"""The chunked loss: value, gradients and per-task sums equal plain PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from data_modules.collate import IGNORE_INDEX, Batch, collate
from tests.shared_data import made_store
from trainer import attention, loss
from trainer.loss import MultiTaskLM, SupervisedHead

WIDTH, VOCABULARY, POSITIONS, TASKS = 12, 37, 23, 3


def head(bias: bool, frozen: bool = False) -> SupervisedHead:
    torch.manual_seed(1)
    linear = nn.Linear(WIDTH, VOCABULARY, bias=bias)
    SupervisedHead.adopt(linear)
    linear.requires_grad_(not frozen)
    assert isinstance(linear, SupervisedHead)
    return linear


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "labels": torch.randint(VOCABULARY, (POSITIONS,), generator=generator),
        "token_weights": torch.rand(POSITIONS, generator=generator),
        # Task 1 is absent.
        "task_ids": 2 * torch.randint(2, (POSITIONS,), generator=generator),
    }


def hidden_states() -> torch.Tensor:
    return torch.randn(
        POSITIONS, WIDTH, generator=torch.Generator().manual_seed(3), requires_grad=True
    )


@pytest.mark.parametrize("rows_at_once", [1, 4, 23, 10_000])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_equals_cross_entropy_and_its_autograd(
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int, bias: bool, frozen: bool
) -> None:
    monkeypatch.setattr(loss, "CHUNK_BYTES", 4 * VOCABULARY * rows_at_once)
    one, given = head(bias, frozen), inputs()
    hidden = hidden_states()
    value, nll_of = one(hidden, tasks=TASKS, **given)
    (3 * value).backward()  # the engine scales the loss: gradients must follow

    plain, expected_hidden = head(bias, frozen), hidden_states()
    logits = F.linear(expected_hidden, plain.weight, plain.bias)
    nll = F.cross_entropy(logits, given["labels"], reduction="none")
    expected = (nll * given["token_weights"]).sum()
    (3 * expected).backward()

    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(hidden.grad, expected_hidden.grad, rtol=1e-5, atol=1e-6)
    for parameter, reference in zip(one.parameters(), plain.parameters(), strict=True):
        if frozen:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, reference.grad, rtol=1e-5, atol=1e-6)
    nll = nll.detach()
    sums = [float(nll[given["task_ids"] == task].sum()) for task in range(TASKS)]
    assert nll_of.dtype == torch.float64
    assert nll_of.tolist() == pytest.approx(sums, rel=1e-6)
    assert sums[1] == 0.0


def test_a_frozen_trunk_still_trains_the_head() -> None:
    one, given = head(bias=True), inputs()
    value, _ = one(hidden_states().detach(), tasks=TASKS, **given)
    value.backward()
    logits = F.linear(hidden_states().detach(), one.weight, one.bias)
    nll = F.cross_entropy(logits, given["labels"], reduction="none")
    (expected,) = torch.autograd.grad((nll * given["token_weights"]).sum(), one.weight)
    torch.testing.assert_close(one.weight.grad, expected, rtol=1e-5, atol=1e-6)


def test_a_stand_in_weighs_nothing() -> None:
    one, hidden = head(bias=True), hidden_states()
    value, nll_of = one(
        hidden,
        torch.full((POSITIONS,), IGNORE_INDEX),
        torch.zeros(POSITIONS),
        torch.zeros(POSITIONS, dtype=torch.int64),
        TASKS,
    )
    value.backward()
    assert value.item() == 0.0
    assert nll_of.tolist() == [0.0] * TASKS
    for gradient in (hidden.grad, one.weight.grad, one.bias.grad):
        assert gradient is not None, "all ranks must enter the same collectives"
        assert float(gradient.abs().max()) == 0.0


def test_logits_never_exist_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    linear = F.linear

    def watch(rows: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(len(rows))
        return linear(rows, *rest)

    monkeypatch.setattr(loss, "CHUNK_BYTES", 4 * VOCABULARY * 10)
    monkeypatch.setattr(F, "linear", watch)
    head(bias=False)(hidden_states(), tasks=TASKS, **inputs())
    assert seen == [10, 10, 3]


def test_evaluation_forms_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> torch.Tensor:
        raise AssertionError("the softmax is for gradients only")

    one, hidden, given = head(bias=True), hidden_states(), inputs()
    value, nll_of = one(hidden, tasks=TASKS, **given)
    monkeypatch.setattr(torch, "softmax", refuse)
    with torch.no_grad():
        again, nll_again = one(hidden, tasks=TASKS, **given)
    assert again.item() == value.item()
    assert nll_again.tolist() == nll_of.tolist()


def test_bf16_is_as_close_as_its_own_rounding() -> None:
    one, given = head(bias=False).to(torch.bfloat16), inputs()
    hidden = hidden_states().detach().to(torch.bfloat16).requires_grad_()
    value, _ = one(hidden, tasks=TASKS, **given)
    value.backward()
    exact = hidden.detach().float().requires_grad_()
    weight = one.weight.detach().float().requires_grad_()
    nll = F.cross_entropy(F.linear(exact, weight), given["labels"], reduction="none")
    (nll * given["token_weights"]).sum().backward()
    assert exact.grad is not None
    assert weight.grad is not None
    assert value.dtype == torch.float32
    for gradient, reference in ((hidden.grad, exact.grad), (one.weight.grad, weight.grad)):
        assert gradient is not None
        assert gradient.dtype == torch.bfloat16
        assert float((gradient.float() - reference).norm() / reference.norm()) < 0.01


def test_without_labels_it_is_the_plain_projection() -> None:
    one = head(bias=True)
    hidden = hidden_states()
    assert torch.equal(one(hidden), F.linear(hidden, one.weight, one.bias))


def test_only_linear_heads_are_adopted() -> None:
    with pytest.raises(ValueError, match="its output projection is a Bilinear"):
        SupervisedHead.adopt(nn.Bilinear(2, 2, 2))


# --- the model as a whole

STORE = made_store({"code": [6, 9, 4], "qa": [7, 5]})
STORE.input_ids[:] = np.arange(len(STORE.input_ids)) % 50  # ids that the small model knows


def model(tie: bool) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tie,
    )
    made = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention.NAME
    )
    SupervisedHead.adopt(made.get_output_embeddings())
    return MultiTaskLM(made, tasks=2)


def call(one: MultiTaskLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    result: tuple[torch.Tensor, torch.Tensor] = one(
        batch.input_ids,
        batch.labels,
        batch.position_ids,
        batch.loss_weights,
        batch.task_ids,
        batch.cu_seqlens,
    )
    return result


def gradients(one: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None])


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("tie", [True, False])
def test_a_micro_batch_equals_its_rows_one_by_one(packing: bool, tie: bool) -> None:
    rows, weights = np.arange(5), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    one, plain = model(tie), model(tie)
    value, nll_of = call(one, collate(STORE, rows, weights, 0, packing))
    value.backward()

    expected = torch.zeros(())
    sums = torch.zeros(2)
    for row, weight in zip(rows, weights, strict=True):
        ids, supervised = STORE.tokens(int(row))
        tokens = torch.from_numpy(ids.astype(np.int64))
        # plain Hugging Face attention, logits and labels
        plain.model.set_attn_implementation("eager")
        logits = plain.model(input_ids=tokens[None]).logits[0, :-1]
        nll = F.cross_entropy(logits, tokens[1:], reduction="none")[
            torch.from_numpy(supervised[1:].copy())
        ]
        expected = expected + weight * nll.sum()
        sums[STORE.task_ids[row]] += nll.sum().detach()
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(nll_of.float(), sums, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(one), gradients(plain), rtol=1e-4, atol=1e-6)


def test_an_idle_ranks_micro_batch_adds_nothing() -> None:
    one = model(tie=False)
    batch = collate(STORE, np.array([2]), np.ones(1), 0, packing=True, empty=True)
    value, nll_of = call(one, batch)
    value.backward()
    assert value.item() == 0.0
    assert nll_of.tolist() == [0.0, 0.0]
    assert all(p.grad is not None for p in one.parameters())
    assert float(gradients(one).abs().max()) == 0.0
