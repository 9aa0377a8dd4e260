"""The chunked loss: value, gradients and per-task sums equal plain PyTorch's."""

from __future__ import annotations

import math
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
from trainer.loss import NEGATIVE_P, NEGATIVE_TOKENS, NLL, MultiTaskLM, SupervisedHead

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
    monkeypatch.setattr(loss, "chunk_rows", lambda *_, **__: rows_at_once)
    one, given = head(bias, frozen), inputs()
    hidden = hidden_states()
    value, sums_of = one(hidden, tasks=TASKS, **given)
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
    assert sums_of.dtype == torch.float64
    assert sums_of[NLL].tolist() == pytest.approx(sums, rel=1e-6)
    assert sums[1] == 0.0
    assert float(sums_of[[NEGATIVE_P, NEGATIVE_TOKENS]].abs().max()) == 0.0


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
    value, sums = one(
        hidden,
        torch.full((POSITIONS,), IGNORE_INDEX),
        torch.zeros(POSITIONS),
        torch.zeros(POSITIONS, dtype=torch.int64),
        TASKS,
    )
    value.backward()
    assert value.item() == 0.0
    assert sums.tolist() == [[0.0] * TASKS] * 3
    for gradient in (hidden.grad, one.weight.grad, one.bias.grad):
        assert gradient is not None, "all ranks must enter the same collectives"
        assert float(gradient.abs().max()) == 0.0


def test_logits_never_exist_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    linear = F.linear

    def watch(rows: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(len(rows))
        return linear(rows, *rest)

    monkeypatch.setattr(loss, "chunk_rows", lambda *_, **__: 10)
    monkeypatch.setattr(F, "linear", watch)
    head(bias=False)(hidden_states(), tasks=TASKS, **inputs())
    assert seen == [10, 10, 3]


def test_a_chunk_is_what_caches_hold_then_the_models_width_then_what_memory_spares() -> None:
    assert loss.chunk_rows(6_400, 256) == 8 * 2**20 // (4 * 6_400)
    assert loss.chunk_rows(151_936, 256) == 256
    assert loss.chunk_rows(151_936, 4_096) == 256 * 2**20 // (4 * 151_936)
    assert loss.chunk_rows(2**30, 1) == 1


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_nll_is_as_exact_as_the_librarys(scale: float) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = scale * torch.randn(64, 500, generator=generator)
    labels = torch.randint(500, (64,), generator=generator)
    labels[:32] = logits[:32].argmax(-1)  # sure, and right
    exact = F.cross_entropy(logits.double(), labels, reduction="none")
    theirs = F.cross_entropy(logits, labels, reduction="none")
    ours = loss._nll(logits, logits.softmax(-1), labels)
    assert (ours >= 0).all()
    worst = float((theirs - exact).abs().max())
    assert float((ours - exact).abs().max()) <= 2 * worst + 1e-7


def test_evaluation_forms_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> torch.Tensor:
        raise AssertionError("this is for gradients only")

    one, hidden, given = head(bias=True), hidden_states(), inputs()
    value, sums = one(hidden, tasks=TASKS, **given)
    monkeypatch.setattr(loss, "_d_logits", refuse)
    with pytest.raises(AssertionError, match="for gradients only"):
        one(hidden, tasks=TASKS, **given)
    with torch.no_grad():
        again, sums_again = one(hidden, tasks=TASKS, **given)
    torch.testing.assert_close(again, value, rtol=1e-6, atol=0)
    torch.testing.assert_close(sums_again, sums, rtol=1e-6, atol=0)


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


# --- negatives


def mixed_inputs() -> dict[str, torch.Tensor]:
    """Every third token is a negative."""
    given = inputs()
    given["token_weights"] *= torch.where(torch.arange(POSITIONS) % 3 == 0, -1.0, 1.0)
    return given


def plain_loss(
    logits: torch.Tensor, given: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, p of every token) as written in the contract, by plain autograd."""
    p = logits.softmax(-1).gather(1, given["labels"][:, None])[:, 0]
    weights = given["token_weights"].to(logits.dtype)
    terms = torch.where(weights < 0, -torch.log(1 - p.clamp(max=1 - 1e-4)), -torch.log(p))
    return (weights.abs() * terms).sum(), p


@pytest.mark.parametrize("rows_at_once", [1, 4, 23, 10_000])
@pytest.mark.parametrize("bias", [False, True])
def test_negatives_equal_plain_autograd(
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int, bias: bool
) -> None:
    monkeypatch.setattr(loss, "chunk_rows", lambda *_, **__: rows_at_once)
    one, given, hidden = head(bias), mixed_inputs(), hidden_states()
    value, sums = one(hidden, tasks=TASKS, **given)
    (3 * value).backward()

    # the reference in double precision
    exact = hidden_states().detach().double().requires_grad_()
    reference = [parameter.detach().double().requires_grad_() for parameter in one.parameters()]
    expected, p = plain_loss(F.linear(exact, *reference), given)
    (3 * expected).backward()

    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)
    for parameter, wanted in zip(one.parameters(), reference, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.double(), wanted.grad, rtol=1e-5, atol=1e-6)
    negative, p = given["token_weights"] < 0, p.detach()
    for task in range(TASKS):
        mine = given["task_ids"] == task
        assert sums[NLL][task].item() == pytest.approx(float(-p[mine & ~negative].log().sum()))
        assert sums[NEGATIVE_P][task].item() == pytest.approx(float(p[mine & negative].sum()))
        assert sums[NEGATIVE_TOKENS][task].item() == int((mine & negative).sum())
    assert sums[NEGATIVE_TOKENS].sum() == 8


def d_logits(logits: torch.Tensor, label: int, weight: float) -> tuple[float, torch.Tensor]:
    """Loss of one token, and its gradient with respect to the logits."""
    one = nn.Linear(len(logits), len(logits), bias=False)
    one.weight.data = torch.eye(len(logits))
    SupervisedHead.adopt(one)
    hidden = logits[None].clone().requires_grad_()
    value, _ = one(hidden, torch.tensor([label]), torch.tensor([weight]), torch.zeros(1).long(), 1)
    value.backward()
    assert hidden.grad is not None
    return value.item(), hidden.grad[0]


def test_a_negative_pushes_its_token_down_and_all_others_up() -> None:
    logits = torch.randn(9, generator=torch.Generator().manual_seed(4))
    _, gradient = d_logits(logits, 3, -0.5)
    assert gradient[3] > 0, "descent lowers the logit"
    assert (gradient[torch.arange(9) != 3] < 0).all()
    assert gradient.sum().item() == pytest.approx(0.0, abs=1e-7)
    p = logits.softmax(-1)[3].item()
    assert gradient[3].item() == pytest.approx(0.5 * p)


@pytest.mark.parametrize("sure", [5.0, 12.0, 20.0, 60.0, 1e4])
def test_a_model_that_is_sure_of_a_wrong_token_is_pushed_by_a_finite_gradient(sure: float) -> None:
    logits = torch.tensor([sure, 0.3, -0.2, 0.0])
    value, gradient = d_logits(logits, 0, -2.0)
    rest = 1 - logits.double().softmax(-1)[0].item()
    assert value == pytest.approx(-2.0 * math.log(max(rest, 1e-4)), rel=1e-3)
    assert torch.isfinite(gradient).all()
    assert gradient[0].item() == pytest.approx(2.0 * (1 - rest)), "the clamp is the value's alone"
    assert float(gradient.abs().max()) <= 2.0
    if sure < 1e4:  # there the others' probabilities are 0 in fp32
        # as a share of what is left: the gradient of the unclamped loss
        others = -2.0 * (1 - rest) * logits[1:].softmax(-1)
        torch.testing.assert_close(gradient[1:], others, rtol=1e-5, atol=1e-7)


def test_a_token_that_the_model_would_never_say_costs_nothing() -> None:
    value, gradient = d_logits(torch.tensor([-1e4, 0.3, -0.2]), 0, -2.0)
    assert value == 0.0
    assert float(gradient.abs().max()) == 0.0


def test_a_negative_without_weight_is_still_none_of_the_positives() -> None:
    one, given, hidden = head(bias=True), inputs(), hidden_states()
    given["token_weights"][5] = -0.0
    value, sums = one(hidden, tasks=TASKS, **given)
    value.backward()
    task = int(given["task_ids"][5])
    assert sums[NEGATIVE_TOKENS].tolist() == [float(place == task) for place in range(TASKS)]
    assert hidden.grad is not None
    assert float(hidden.grad[5].abs().max()) == 0.0
    mine = given["task_ids"] == task
    mine[5] = False
    nll = F.cross_entropy(one(hidden).detach(), given["labels"], reduction="none")
    assert sums[NLL][task].item() == pytest.approx(float(nll[mine].sum()), rel=1e-6)


def test_bf16_negatives_are_as_close_as_their_own_rounding() -> None:
    one, given = head(bias=False).to(torch.bfloat16), mixed_inputs()
    hidden = hidden_states().detach().to(torch.bfloat16).requires_grad_()
    value, _ = one(hidden, tasks=TASKS, **given)
    value.backward()
    exact = hidden.detach().double().requires_grad_()
    expected, _ = plain_loss(F.linear(exact, one.weight.detach().double()), given)
    expected.backward()
    assert exact.grad is not None
    assert hidden.grad is not None
    assert float((hidden.grad.double() - exact.grad).norm() / exact.grad.norm()) < 0.01


# --- the model as a whole

STORE = made_store({"code": [6, -9, 4], "qa": [7, 5, -6]})
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
    rows, weights = np.arange(6), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) * STORE.signs
    one, plain = model(tie), model(tie)
    value, sums = call(one, collate(STORE, rows, weights, 0, packing))
    value.backward()

    expected = torch.zeros(())
    wanted = torch.zeros(3, 2)
    for row, weight in zip(rows, weights, strict=True):
        ids, supervised = STORE.tokens(int(row))
        tokens = torch.from_numpy(ids.astype(np.int64))
        # plain Hugging Face attention, logits and labels
        plain.model.set_attn_implementation("eager")
        logits = plain.model(input_ids=tokens[None]).logits[0, :-1]
        nll = F.cross_entropy(logits, tokens[1:], reduction="none")[
            torch.from_numpy(supervised[1:].copy())
        ]
        task = STORE.task_ids[row]
        if STORE.signs[row] > 0:
            expected = expected + weight * nll.sum()
            wanted[NLL, task] += nll.sum().detach()
        else:
            p = torch.exp(-nll)
            expected = expected + weight * torch.log(1 - p).sum()
            wanted[NEGATIVE_P, task] += p.sum().detach()
            wanted[NEGATIVE_TOKENS, task] += len(p)
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sums.float(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(one), gradients(plain), rtol=1e-4, atol=1e-6)


def test_an_unsupervised_token_of_a_negative_has_no_gradient() -> None:
    one = model(tie=False)
    captured: list[torch.Tensor] = []

    def keep(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        captured.append(args[1])

    one.causal_model.lm_head.register_forward_pre_hook(keep)
    row = int(np.flatnonzero(STORE.signs < 0)[0])
    call(one, collate(STORE, np.array([row]), np.array([-1.0]), 0, packing=True))
    ids, supervised = STORE.tokens(row)
    (labels,) = captured
    assert labels.tolist() == ids[supervised].tolist(), "the others never reach the head"


def test_an_idle_ranks_micro_batch_adds_nothing() -> None:
    one = model(tie=False)
    batch = collate(STORE, np.array([1]), -np.ones(1), 0, packing=True, empty=True)
    value, sums = call(one, batch)
    value.backward()
    assert value.item() == 0.0
    assert sums.tolist() == [[0.0, 0.0]] * 3
    assert all(p.grad is not None for p in one.parameters())
    assert float(gradients(one).abs().max()) == 0.0
