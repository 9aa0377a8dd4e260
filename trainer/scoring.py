"""A model's loss on every training row: what ``order: easy_to_hard`` by loss goes by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from data_modules.collate import collate
from data_modules.samples import SampleStore
from trainer import distributed
from trainer.config.schema import Config
from trainer.config.validate import validate
from trainer.console import make_console, quieten_libraries
from trainer.loss import MultiTaskLM, inputs_of, rows_as_tasks
from trainer.model import load_model
from trainer.train import make_data


def score(config: Config) -> Path:
    """Write ``row_losses.npz`` into the run directory: row_keys (uint64, sorted), losses (float32).

    A loss is the mean nll of a row's answer tokens, in nats, under the model that a run of this
    configuration would start from. Rows are dealt to the ranks that the launcher started.

    Raises:
        UserFault: whatever would stop the run before training.
    """
    ranks = distributed.ranks_from_environment()
    validate(config, dp_world_size=None)
    quieten_libraries()
    distributed.set_threads(config.cluster, ranks)
    data = make_data(config, config.init_from)
    device = distributed.init(config.cluster, ranks)
    distributed.on_first_local_rank(ranks, data.prepare)
    store = data.store(next(iter(data.mixtures)))
    model = distributed.on_every_rank(
        ranks, lambda: load_model(config.model, data.tokenizer, config.init_from, config.seed)
    )
    model = model.to(device).eval()
    rows = np.flatnonzero(np.asarray(store.signs) > 0)[ranks.rank :: ranks.world_size]
    pad = data.tokenizer.pad_token_id or 0
    mine = row_losses(model, store, rows, config.evaluation.batch_size, pad, device)
    shards: list[tuple[np.ndarray, np.ndarray]] = [(rows, mine)] * ranks.world_size
    if ranks.world_size > 1:
        dist.all_gather_object(shards, (rows, mine))
    path = Path(config.output_dir) / "row_losses.npz"
    if ranks.is_main:
        keys = np.asarray(store.row_keys)[np.concatenate([one for one, _ in shards])]
        losses = np.concatenate([one for _, one in shards])
        keys, first = np.unique(keys, return_index=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, row_keys=keys, losses=losses[first])
        console = make_console()
        console.print(
            f"{len(keys):,} rows, loss {losses.mean():.3f} nats/token "
            f"({np.quantile(losses, 0.05):.3f} to {np.quantile(losses, 0.95):.3f} for nine in ten)"
        )
        console.print(
            f"Use it with data.row_losses={path} and a phase's order=easy_to_hard order_by=loss.",
            soft_wrap=True,
        )
    return path


@torch.no_grad()
def row_losses(
    model: torch.nn.Module,
    store: SampleStore,
    rows: np.ndarray,
    batch_size: int,
    pad_token_id: int,
    device: torch.device,
) -> np.ndarray:
    """float32 [rows]: mean nll of each row's supervised tokens, in nats."""
    by_length = np.argsort(store.lengths_of(rows), kind="stable")
    losses = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), batch_size):
        places = by_length[start : start + batch_size]
        some = rows[places]
        batch = collate(store, some, np.ones(len(some)), pad_token_id, packing=False)
        _, sums = MultiTaskLM(model, len(some))(**inputs_of(rows_as_tasks(batch), device))
        losses[places] = sums[0].cpu().numpy() / np.asarray(store.answer_tokens)[some]
    return losses
