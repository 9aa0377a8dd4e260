"""Losses on a fixed sample of the rows that a phase trains on: what was learned by heart, what is no good.

Beside the loss on evaluation rows they show over-fitting, of rows drawn often before others; and the rows
that stay hard are the ones to read, as wrong answers do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from data_modules.collate import collate
from data_modules.phase_data_module import PhaseDataModule
from data_modules.probe_rows import probe_rows
from data_modules.records import Record
from data_modules.samples import key_of
from trainer import watchdog
from trainer.evaluation.model import EvaluatedModel
from trainer.run_directory import write_json_lines


@dataclass(frozen=True)
class TrainRow:
    """One training row under the model.

    Attributes:
        row: its number in the phase's store.
        row_key: see ``data_modules.samples.Sample``.
        loss: mean nll of its answer tokens, in nats.
        times: how often the phase draws it.
    """

    task: str
    row: int
    row_key: int
    loss: float
    tokens: int
    times: int


@dataclass(frozen=True)
class TrainLosses:
    """Losses of the sampled rows.

    Attributes:
        per_task: mean nll per answer token, in nats, as evaluation losses are; negatives apart.
        rows: every sampled row, task by task, the highest loss first.
    """

    per_task: dict[str, float]
    rows: list[TrainRow]


def train_losses(
    model: EvaluatedModel,
    data: PhaseDataModule,
    phase: str,
    rows_per_task: int,
    seed: int,
    batch_size: int,
    rank: int,
) -> TrainLosses:
    """Measure up to ``rows_per_task`` rows of each task of a phase; the same on every rank.

    The sample is a function of data, phase and seed, so losses of two evaluations compare row by row.
    Every rank runs as many forwards.
    """
    plan = data.plans[phase]
    store = plan.store
    sample = probe_rows(plan, rows_per_task, seed, "train losses")
    rows = np.concatenate([one.rows for one in sample.values()])
    nll = iter(rows_nll(model, data, phase, rows, batch_size, rank))
    per_task: dict[str, float] = {}
    found: list[TrainRow] = []
    for task, one in sample.items():
        tokens = np.asarray(store.answer_tokens)[one.rows].tolist()
        mine = [next(nll) for _ in tokens]
        per_task[task] = sum(mine) / sum(tokens)
        keys = np.asarray(store.row_keys)[one.rows].tolist()
        some = [
            TrainRow(task, row, key, loss / count, count, times)
            for row, key, loss, count, times in zip(
                one.rows.tolist(), keys, mine, tokens, one.times.tolist(), strict=True
            )
        ]
        found += sorted(some, key=lambda row: -row.loss)
    return TrainLosses(per_task, found)


def rows_nll(
    model: EvaluatedModel,
    data: PhaseDataModule,
    phase: str,
    rows: np.ndarray,
    batch_size: int,
    rank: int,
) -> list[float]:
    """nll sum of each of some rows of a phase's store; the same on every rank, collective.

    Every rank runs as many forwards.

    Args:
        rows: int [n], n >= 1.
        batch_size: rows of one forward per rank.
    """
    store = data.plans[phase].store
    by_length = np.argsort(store.lengths_of(rows), kind="stable")
    batches = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    real = len(batches)
    batches += [batches[0][:1]] * (-real % model.world_size)
    sums = torch.zeros(len(rows), dtype=torch.float64, device=model.device)
    pad = data.tokenizer.pad_token_id or 0
    for number in range(rank, len(batches), model.world_size):
        watchdog.at(f"losses of training rows: batch {number + 1} of {len(batches)}")
        places = batches[number]
        batch = collate(
            store,
            rows[places],
            np.ones(len(places)),
            pad,
            packing=False,
            empty=number >= real,
        )
        sums[torch.from_numpy(places).to(model.device)] += model.row_nll(batch)
    if model.world_size > 1:
        dist.all_reduce(sums)
    return sums.tolist()


def write_train_losses(path: Path, found: TrainLosses, data: PhaseDataModule, phase: str) -> None:
    """Write ``train_losses.jsonl``: every sampled row, and where a person finds it.

    One object a line: ``task``, ``loss`` (nats per answer token), ``tokens``, ``times`` (drawn by the
    phase), ``row_key``, ``row_id`` and ``origin`` (``file:line``) of the clean row, its ``request`` and
    ``answer`` as cleaned, and ``prompt``, what the model saw before the first answer token.
    """
    records = _records(data, {row.row_key for row in found.rows})
    store = data.plans[phase].store
    values: list[dict[str, Any]] = []
    for row in found.rows:
        ids, supervised = store.tokens(row.row)
        record = records[row.row_key]
        value: dict[str, Any] = {
            "task": row.task,
            "loss": row.loss,
            "tokens": row.tokens,
            "times": row.times,
            "row_key": f"{row.row_key:016x}",
            "row_id": record.row_id,
            "origin": record.origin,
            "request": record.request,
            "answer": record.answer,
            "prompt": data.tokenizer.decode(ids[: int(np.argmax(supervised))].tolist()),
        }
        values.append(value)
    write_json_lines(path, values)


def _records(data: PhaseDataModule, keys: Iterable[int]) -> dict[int, Record]:
    """The clean rows behind row keys; reads the ids of rows until it has all of them."""
    missing = set(keys)
    found: dict[int, Record] = {}
    clean = data.cleaned.rows
    for number, part in enumerate(clean.parts):
        if not missing:
            break
        ids = part.row_ids()
        kept = clean.kept(number)
        right = kept[~part.negative()[kept]]
        # backwards: of rows that share an id, which nothing here tells apart, the first stays
        places = {key_of(part.task, ids[row]): int(row) for row in right[::-1]}
        here = sorted(missing & places.keys(), key=places.__getitem__)
        local = np.array([places[key] for key in here], dtype=np.int64)
        found |= zip(here, part.records(local), strict=True)
        missing -= set(here)
    return found
