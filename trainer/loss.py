"""Weighted loss of the supervised positions, in chunks, with per-task sums from one pass.

Only supervised positions reach the output projection, ``CHUNK_BYTES`` of logits at a time, and the
gradients are formed in the forward pass: a [tokens, vocabulary] tensor never exists.

A token's weight w says by its sign bit what it is for (-0.0 is still a negative):

- positive: ``w * -log p``, cross-entropy;
- negative: ``|w| * -log(1 - p)``, unlikelihood (arXiv 1908.04319), with p clamped to
  ``1 - MIN_REST`` in the value. The gradient is that of the unclamped loss: with q = 1 - p it is
  ``p`` at the token's own logit and ``-p * p_k / q`` at every other k. It never exceeds |w|, so it
  needs no clamp, and a model that is sure of a wrong token is still pushed down by it.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from data_modules.collate import IGNORE_INDEX, Batch
from trainer.sequence_parallel import SequenceGroup

CHUNK_BYTES = 64 * 1024 * 1024  # fp32 logits held at once
MIN_REST = 1e-4  # least 1 - p in the value of unlikelihood
_TINY = 1e-30  # keeps 0 / 0 out where the rest underflows

# Rows of the per-task sums.
NLL, NEGATIVE_P, NEGATIVE_TOKENS = range(3)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The weighted loss, and unweighted sums per task, float64 [3, tasks].

    The sums are the nll of positives (``NLL``), p of negatives (``NEGATIVE_P``) and how many those are
    (``NEGATIVE_TOKENS``).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        token_weights: torch.Tensor,
        task_ids: torch.Tensor,
        tasks: int,
        differentiable: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        positions, vocabulary = hidden.shape[0], weight.shape[0]
        chunk = max(1, CHUNK_BYTES // (4 * vocabulary))
        total = hidden.new_zeros((), dtype=torch.float32)
        sums = hidden.new_zeros(3, tasks, dtype=torch.float64)
        # needs_input_grad is True for parameters under no_grad, too: evaluation forms no gradients.
        need_hidden, need_weight, need_bias = (
            needed and differentiable for needed in ctx.needs_input_grad[:3]
        )
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        d_bias = None
        if bias is not None and need_bias:
            d_bias = torch.zeros_like(bias, dtype=torch.float32)
        for start in range(0, positions, chunk):
            part = slice(start, start + chunk)
            rows = hidden[part]
            logits = F.linear(rows, weight, bias).float()
            at, weights, ids = labels[part], token_weights[part], task_ids[part]
            # IGNORE_INDEX (the stand-in of an idle rank) gives 0
            nll = F.cross_entropy(logits, at, reduction="none", ignore_index=IGNORE_INDEX)
            # Which tokens are negative is never asked by an index, whose size the host would wait for.
            negative = torch.signbit(weights)
            rest = -torch.expm1(-nll)  # 1 - p
            unlikelihood = -rest.clamp_min(MIN_REST).log()
            total += (torch.where(negative, unlikelihood, nll) * weights.abs()).sum()
            sums[NLL].index_add_(0, ids, nll.double().masked_fill(negative, 0.0))
            sums[NEGATIVE_P].index_add_(0, ids, torch.exp(-nll).double() * negative)
            sums[NEGATIVE_TOKENS].index_add_(0, ids, negative.double())
            if not (need_hidden or need_weight or need_bias):
                continue
            d_logits = _d_logits(logits, at.clamp_min(0), weights, negative).to(weight.dtype)
            if d_hidden is not None:
                d_hidden[part] = d_logits @ weight
            if d_weight is not None:
                d_weight += d_logits.t() @ rows
            if d_bias is not None:
                d_bias += d_logits.float().sum(0)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(sums)
        return total, sums

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        scale = grads[0]
        weight_dtype, bias_dtype = ctx.dtypes
        return (
            None if d_hidden is None else d_hidden * scale.to(d_hidden.dtype),
            None if d_weight is None else (d_weight * scale).to(weight_dtype),
            None if d_bias is None else (d_bias * scale).to(bias_dtype),
            None,
            None,
            None,
            None,
            None,
        )


def _d_logits(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, negative: torch.Tensor
) -> torch.Tensor:
    """Gradient of the weighted loss, [n, vocabulary]; see the module's docstring.

    Args:
        labels, weights, negative: [n]; labels are valid indices.
    """
    others = torch.softmax(logits, dim=-1)
    own = labels[:, None]
    p = others.gather(1, own)[:, 0]
    # 1 - p as a sum keeps its digits where p is all but 1
    q = others.scatter_(1, own, 0.0).sum(-1)
    # Cross-entropy: p_k at every other token, -q at its own.
    slope = torch.where(negative, p / q.clamp_min(_TINY), 1.0) * weights
    others *= slope[:, None]
    return others.scatter_(1, own, (-torch.where(negative, p, q) * weights)[:, None])


class SupervisedHead(nn.Linear):
    """A model's ``lm_head`` that can also compute the loss where its weight is.

    Under ZeRO-3 the weight exists only inside this module's forward, hence the loss lives here.
    Existing heads become one by :meth:`adopt`; called with hidden states alone it stays the plain
    projection that generation uses.
    """

    @classmethod
    def adopt(cls, head: nn.Module) -> None:
        """Turn a model's output projection into a SupervisedHead in place (ties are kept)."""
        if type(head) is not nn.Linear:
            raise ValueError(
                f"model.path: its output projection is a {type(head).__name__}; "
                "only models with a plain linear lm_head are supported"
            )
        head.__class__ = cls

    def forward(
        self,
        hidden: torch.Tensor,
        labels: torch.Tensor | None = None,
        token_weights: torch.Tensor | None = None,
        task_ids: torch.Tensor | None = None,
        tasks: int = 0,
    ) -> Any:
        """Logits [..., vocabulary]; or, given labels, (loss [], per-task sums float64 [3, tasks]).

        Args:
            hidden: [n, width] at the positions that predict a supervised token.
            labels, token_weights, task_ids: [n] of the predicted tokens.
        """
        if labels is None:
            return super().forward(hidden)
        return _ChunkedCrossEntropy.apply(
            hidden,
            self.weight,
            self.bias,
            labels,
            token_weights,
            task_ids,
            tasks,
            torch.is_grad_enabled(),
        )


class MultiTaskLM(nn.Module):
    """A causal language model whose forward is the training loss; what DeepSpeed wraps."""

    def __init__(self, model: nn.Module, tasks: int) -> None:
        super().__init__()
        self.model = model
        self.tasks = tasks

    def forward(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        position_ids: torch.Tensor,
        loss_weights: torch.Tensor,
        task_ids: torch.Tensor,
        cu_seqlens: torch.Tensor | None = None,
        tasks: int | None = None,
        sequence_group: SequenceGroup | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted loss of one micro-batch and sums of each task, float64 [3, tasks].

        The sums' rows are ``NLL``, ``NEGATIVE_P`` and ``NEGATIVE_TOKENS``. Shapes as in
        ``data_modules.collate.Batch``. A position predicts the token behind it.

        Args:
            sequence_group: the ranks that share the micro-batch, of which this is one's slice.
            tasks: what ``task_ids`` count up to, if not the data's tasks.
        """
        causal = self.causal_model
        shared = {} if sequence_group is None else {"sequence_group": sequence_group}
        with nullcontext() if sequence_group is None else sequence_group.every_layer(causal):
            hidden = causal.base_model(
                input_ids=input_ids,
                position_ids=position_ids,
                use_cache=False,
                cu_seqlens=cu_seqlens,
                **shared,
            ).last_hidden_state
        # as many positions as predict: all but the last of whole rows, all of a slice
        hidden = hidden[:, : labels.shape[1] - 1]
        targets = labels[:, 1:].reshape(-1)
        keep = (targets != IGNORE_INDEX).nonzero().squeeze(1)
        # A micro-batch without a supervised token (a stand-in) still runs the head, with weight 0,
        # so that every rank enters the same collectives.
        if not len(keep):
            keep = keep.new_zeros(1)
        at = hidden.reshape(-1, hidden.shape[-1])[keep]
        result: tuple[torch.Tensor, torch.Tensor] = causal.lm_head(
            at,
            targets[keep],
            loss_weights[:, 1:].reshape(-1)[keep],
            task_ids[:, 1:].reshape(-1)[keep],
            self.tasks if tasks is None else tasks,
        )
        return result

    @property
    def causal_model(self) -> Any:
        """The Hugging Face model, inside a peft wrapper or not."""
        unwrap = getattr(self.model, "get_base_model", None)
        return unwrap() if unwrap else self.model


def inputs_of(batch: Batch, device: torch.device) -> dict[str, torch.Tensor | None]:
    """A batch as the arguments of :meth:`MultiTaskLM.forward`."""

    def put(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, non_blocking=True)

    return {
        "input_ids": put(batch.input_ids),
        "labels": put(batch.labels),
        "position_ids": put(batch.position_ids),
        "loss_weights": put(batch.loss_weights),
        "task_ids": put(batch.task_ids),
        "cu_seqlens": None if batch.cu_seqlens is None else put(batch.cu_seqlens),
    }


def rows_as_tasks(batch: Batch) -> Batch:
    """Let every row of an unpacked batch count as a task of its own: sums by task are then by row."""
    assert batch.cu_seqlens is None, "a packed batch is one row"
    rows = torch.arange(len(batch.input_ids)).unsqueeze(1)
    return replace(batch, task_ids=rows.expand_as(batch.task_ids))
