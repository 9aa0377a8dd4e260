"""What the ranks of test_negatives_engine do: the engine alone, on a made-up store with negatives.

Every case (ZeRO stage, micro-batch size, packing; where given, ranks that share sequences and activation
checkpointing) of the file that ``ENGINE_CASES`` names is run in one process group. The file that
``ENGINE_RESULTS`` names gets, per case, what each step left, and the weights behind the last.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from data_modules.collate import Batch, collate
from data_modules.packing import lay_out
from data_modules.slicing import slice_of
from tests.shared_data import made_store
from trainer import attention, distributed
from trainer.config.schema import Config, Normalization, Precision
from trainer.engine import ZeroEngine
from trainer.loss import SupervisedHead
from trainer.objective import row_weights

STORE = made_store({"code": [6, -9, 4, 12, -7], "math": [5, 8, -6], "qa": [7, 5, -6, -10, 9]})
STORE.input_ids[:] = np.arange(len(STORE.input_ids)) * 7 % 50  # ids that the small model knows
ALPHAS = {"qa": 2.0}
NEGATIVE_WEIGHT = 0.3
LR = 3e-3
CODE, MATH, QA = [0, 1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11, 12]
# (normalisation, rows of the step)
STEPS: list[tuple[str, list[int]]] = [
    (name, rows)
    for name in ("token", "sample", "task")
    for rows in (
        CODE + MATH + QA,
        [0, 2, 5, 8],  # no negative
        [0, 3, 7, 10],  # negatives of tasks without a positive
        [1, 4, 11],  # negatives alone
        [8],  # one row: all ranks but one idle
        [12, 1],
    )
]


def small_model(implementation: str) -> Any:
    """The same weights every time."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    return AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=implementation
    )


def batches(
    normalization: str, rows: np.ndarray, case: dict[str, Any], ranks: distributed.Ranks
) -> list[Batch]:
    """One rank's micro-batches of a step."""
    weights = row_weights(
        Normalization[normalization],
        ALPHAS,
        STORE.tasks,
        STORE.tasks,
        STORE.task_ids[rows],
        STORE.answer_tokens[rows],
        STORE.signs[rows],
        NEGATIVE_WEIGHT,
    )
    parts = case.get("sequence", 1)
    layout = lay_out(
        STORE.lengths[rows],
        ranks.world_size // parts,
        case["micro"],
        max_seq_len=24,
        packing=case["packing"],
    )
    made = []
    for micro_step in layout:
        mine = micro_step[ranks.rank // parts]
        at = mine if len(mine) else np.array([0])
        batch = collate(STORE, rows[at], weights[at], 0, case["packing"], empty=not len(mine))
        made.append(batch if parts == 1 else slice_of(batch, ranks.rank % parts, parts, 0))
    return made


def run(case: dict[str, Any], ranks: distributed.Ranks, device: torch.device) -> dict[str, Any]:
    """Every step's figures, and the last weights."""
    config = Config()
    config.precision = Precision.fp32
    config.zero.stage = case["stage"]
    config.micro_batch_size = case["micro"]
    config.sequence_parallel_size = case.get("sequence", 1)
    config.optimizer.weight_decay = 0.1
    model = small_model(attention.NAME)
    SupervisedHead.adopt(model.get_output_embeddings())
    if case.get("checkpointing"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    engine = ZeroEngine(model, len(STORE.tasks), config, device, ranks.world_size)
    found = []
    for name, rows in STEPS:
        *figures, skipped = engine.train_step(batches(name, np.array(rows), case, ranks), LR).read()
        assert not skipped
        found.append(figures)
    weights = {}
    for name, parameter in engine.causal_model.named_parameters():
        with engine.whole_parameter(parameter):
            weights[name] = parameter.detach().flatten().tolist()
    return {"figures": found, "weights": weights}


def command(config: Config) -> None:
    """Run the cases; the main rank writes the results."""
    cases = json.loads(Path(os.environ["ENGINE_CASES"]).read_text(encoding="utf-8"))
    ranks = distributed.ranks_from_environment()
    torch.set_num_threads(1)
    device = distributed.init(config.cluster, ranks)
    results = [run(case, ranks, device) for case in cases]
    if ranks.is_main:
        Path(os.environ["ENGINE_RESULTS"]).write_text(json.dumps(results), encoding="utf-8")
