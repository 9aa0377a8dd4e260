"""Weighted loss of the supervised positions, in chunks, with per-task sums from one pass.

Only supervised positions reach the output projection, a chunk of them at a time (:func:`chunk_rows`),
and the gradients are formed in the forward pass: a [tokens, vocabulary] tensor never exists.

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
from trainer.attention import Segments
from trainer.sending import sent
from trainer.sequence_parallel import SequenceGroup

#: fp32 logits of a chunk: what caches still hold, and what memory can spare.
LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES = 8 * 2**20, 256 * 2**20
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
        # needs_input_grad is True for parameters under no_grad, too: evaluation forms no gradients.
        need_hidden, need_weight, need_bias = (
            needed and differentiable for needed in ctx.needs_input_grad[:3]
        )
        forms_gradients = need_hidden or need_weight or need_bias
        nll = hidden.new_empty(positions, dtype=torch.float32)
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        d_bias = None
        if bias is not None and need_bias:
            d_bias = torch.zeros_like(bias, dtype=torch.float32)
        # IGNORE_INDEX (the stand-in of an idle rank) is any label without weight
        own = labels.clamp_min(0)
        # Which tokens are negative is never asked by an index, whose size the host would wait for.
        negative = torch.signbit(token_weights)
        chunk = chunk_rows(vocabulary, width=weight.shape[1])
        for start in range(0, positions, chunk):
            part = slice(start, start + chunk)
            rows = hidden[part]
            logits = F.linear(rows, weight, bias).float()
            if not forms_gradients:
                nll[part] = F.cross_entropy(logits, own[part], reduction="none")
                continue
            p = torch.softmax(logits, dim=-1)
            nll[part] = _nll(logits, p, own[part])
            del logits
            d_logits = _d_logits(p, own[part], token_weights[part], negative[part])
            d_logits = d_logits.to(weight.dtype)
            if d_hidden is not None:
                d_hidden[part] = d_logits @ weight
            if d_weight is not None:
                _add_product(d_weight, d_logits.t(), rows)
            if d_bias is not None:
                d_bias += d_logits.float().sum(0)
        nll.masked_fill_(labels == IGNORE_INDEX, 0.0)
        total, sums = _totals(nll, token_weights, negative, task_ids, tasks)
        # Held past autograd's checks, as backward scales them in place.
        ctx.formed = (d_hidden, d_weight, d_bias)
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(sums)
        return total, sums

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        assert ctx.formed is not None, "there is one backward"
        (d_hidden, d_weight, d_bias), ctx.formed = ctx.formed, None
        scale = grads[0]
        weight_dtype, bias_dtype = ctx.dtypes
        return (
            None if d_hidden is None else d_hidden.mul_(scale.to(d_hidden.dtype)),
            None if d_weight is None else d_weight.mul_(scale).to(weight_dtype),
            None if d_bias is None else d_bias.mul_(scale).to(bias_dtype),
            None,
            None,
            None,
            None,
            None,
        )


def chunk_rows(vocabulary: int, width: int) -> int:
    """Positions whose logits are held at once.

    A chunk passes over its logits [rows, vocabulary] and over the projection's weight and gradient
    [vocabulary, width]. As many rows as the model is wide make the two alike; more would only take memory.
    Figures are in docs/kernels.md.
    """
    wanted = min(MOST_CHUNK_BYTES, max(LEAST_CHUNK_BYTES, 4 * vocabulary * width))
    return max(1, wanted // (4 * vocabulary))


def _nll(logits: torch.Tensor, p: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-log p of each label, [n], without a pass that writes.

    The largest probability is 1 / sum(exp(logits - largest logit)): its logarithm loses no digits,
    while that of a small one would.

    Args:
        logits: [n, vocabulary]; p is their softmax.
    """
    distance = logits.amax(-1) - logits.gather(1, labels[:, None])[:, 0]
    return distance - p.amax(-1).log()


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """``total += left @ right``, in one pass over ``total`` where types allow."""
    if left.dtype is total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _d_logits(
    p: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, negative: torch.Tensor
) -> torch.Tensor:
    """Gradient of the weighted loss, [n, vocabulary], in the place of p; see the module's docstring.

    Args:
        p: softmax of the logits, [n, vocabulary].
        labels, weights, negative: [n]; labels are valid indices.
    """
    own = labels[:, None]
    own_p = p.gather(1, own)[:, 0]
    # 1 - p as a sum keeps its digits where p is all but 1
    others = p.scatter_(1, own, 0.0)
    q = others.sum(-1)
    # Cross-entropy: p_k at every other token, -q at its own.
    slope = torch.where(negative, own_p / q.clamp_min(_TINY), 1.0) * weights
    others *= slope[:, None]
    return others.scatter_(1, own, (-torch.where(negative, own_p, q) * weights)[:, None])


def _totals(
    nll: torch.Tensor,
    weights: torch.Tensor,
    negative: torch.Tensor,
    task_ids: torch.Tensor,
    tasks: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted loss, and the sums of each task, float64 [3, tasks]; arguments are [n]."""
    rest = -torch.expm1(-nll)  # 1 - p
    unlikelihood = -rest.clamp_min(MIN_REST).log()
    total = (torch.where(negative, unlikelihood, nll) * weights.abs()).sum()
    sums = nll.new_zeros(3, tasks, dtype=torch.float64)
    sums[NLL].index_add_(0, task_ids, nll.double().masked_fill(negative, 0.0))
    sums[NEGATIVE_P].index_add_(0, task_ids, torch.exp(-nll).double() * negative)
    sums[NEGATIVE_TOKENS].index_add_(0, task_ids, negative.double())
    return total, sums


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
            labels, loss_weights, task_ids: may stay on the host: which positions are supervised is then
                known without waiting for the device, and those alone are sent there.
            cu_seqlens: on the host, whatever the device: its numbers are needed there.
            sequence_group: the ranks that share the micro-batch, of which this is one's slice.
            tasks: what ``task_ids`` count up to, if not the data's tasks.
        """
        causal = self.causal_model
        segments = None if cu_seqlens is None else Segments.of(cu_seqlens, input_ids.device)
        shared = {} if sequence_group is None else {"sequence_group": sequence_group}
        with nullcontext() if sequence_group is None else sequence_group.every_layer(causal):
            hidden = causal.base_model(
                input_ids=input_ids,
                position_ids=position_ids,
                use_cache=False,
                segments=segments,
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
        device = hidden.device
        result: tuple[torch.Tensor, torch.Tensor] = causal.lm_head(
            hidden.reshape(-1, hidden.shape[-1])[sent(keep, device)],
            sent(targets[keep], device),
            sent(loss_weights[:, 1:].reshape(-1)[keep], device),
            sent(task_ids[:, 1:].reshape(-1)[keep], device),
            self.tasks if tasks is None else tasks,
        )
        return result

    @property
    def causal_model(self) -> Any:
        """The Hugging Face model, inside a peft wrapper or not."""
        unwrap = getattr(self.model, "get_base_model", None)
        return unwrap() if unwrap else self.model


def inputs_of(batch: Batch, device: torch.device) -> dict[str, torch.Tensor | None]:
    """A batch as the arguments of :meth:`MultiTaskLM.forward`.

    What only picks supervised positions, and says what they weigh, stays on the host.
    """
    return {
        "input_ids": sent(batch.input_ids, device),
        "labels": batch.labels,
        "position_ids": sent(batch.position_ids, device),
        "loss_weights": batch.loss_weights,
        "task_ids": batch.task_ids,
        "cu_seqlens": batch.cu_seqlens,
    }


def rows_as_tasks(batch: Batch) -> Batch:
    """Let every row of an unpacked batch count as a task of its own: sums by task are then by row."""
    assert batch.cu_seqlens is None, "a packed batch is one row"
    rows = torch.arange(len(batch.input_ids)).unsqueeze(1)
    return replace(batch, task_ids=rows.expand_as(batch.task_ids))
