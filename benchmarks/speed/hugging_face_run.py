"""Hugging Face's Trainer and TRL's SFTTrainer on the same DeepSpeed settings, rows and optimizer.

python benchmarks/speed/hugging_face_run.py --trainer hf|trl [--batch N] [--by-length] [--packing]

Rows are handed over as token ids with labels, which spares both the tokenising that polyphase does.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import argparse
import json
from typing import Any

import numpy as np
from contender import Clock, work_of_environment
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from work import Work, load_rows, threads_per_rank


class Clocked(TrainerCallback):
    """Tells the clock of every optimizer step, and what it was trained on."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.collated = clock, 0

    def counting(self, collate: Any) -> Any:
        """A collator that also counts tokens; its micro-batches are a step's, bar one made ahead."""

        def collated(features: Any) -> Any:
            batch = collate(features)
            mask = batch.get("attention_mask")
            self.collated += int(batch["input_ids"].numel() if mask is None else mask.sum())
            return batch

        return collated

    def on_step_end(self, *_: Any, model: Any = None, **__: Any) -> None:
        tokens, self.collated = self.collated, 0
        self.clock.step_done(tokens, getattr(model, "module", model))


def dataset(work: Work) -> Dataset:
    """The rows of the phase, in its order."""
    rows = load_rows(work.path("rows.npz"))
    return Dataset.from_dict(
        {
            "input_ids": [ids.tolist() for ids, _ in rows],
            "labels": [np.where(mask, ids, -100).tolist() for ids, mask in rows],
            "length": [len(ids) for ids, _ in rows],
        }
    )


def arguments(work: Work, batch: int, accumulation: int, by_length: bool) -> dict[str, Any]:
    """What both trainers are given."""
    deepspeed = json.loads(work.path("deepspeed.json").read_text(encoding="utf-8"))
    # the number of micro-steps is the trainer's to set, the boundary DeepSpeed's to see
    deepspeed |= {
        "gradient_accumulation_steps": accumulation,
        "train_micro_batch_size_per_gpu": batch,
        "train_batch_size": batch * accumulation * work.ranks,
    }
    del deepspeed["managed_gradient_accumulation"], deepspeed["steps_per_print"]
    return {
        "output_dir": str(work.path("trainer")),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "max_steps": work.steps,
        "learning_rate": work.lr,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "adam_beta1": work.beta1,
        "adam_beta2": work.beta2,
        "weight_decay": work.weight_decay,
        "max_grad_norm": work.max_grad_norm,
        "train_sampling_strategy": "group_by_length" if by_length else "random",
        "length_column_name": "length",
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "deepspeed": deepspeed,
        "save_strategy": "no",
        "logging_steps": 10,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": work.seed,
        "dataloader_num_workers": 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trainer", choices=["hf", "trl"], required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--by-length", action="store_true")
    parser.add_argument("--packing", action="store_true")
    options, _ = parser.parse_known_args()
    work = work_of_environment()
    import torch

    torch.set_num_threads(threads_per_rank())
    clock = Clock(work)
    clocked = Clocked(clock)
    rows = dataset(work)
    model = AutoModelForCausalLM.from_pretrained(
        work.path("model"), dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    tokenizer = AutoTokenizer.from_pretrained(work.path("model"), trust_remote_code=False)
    per_step = work.rows_per_step // work.ranks
    if options.packing:
        # sequences of max_length tokens: as many to a step as hold its rows on average
        tokens = float(np.mean(rows["length"])) * per_step
        per_step = max(1, round(tokens / work.max_length))
    batch = min(options.batch, per_step)
    given = arguments(work, batch, max(1, per_step // batch), options.by_length)
    shared = {
        "model": model,
        "train_dataset": rows,
        "processing_class": tokenizer,
        "callbacks": [clocked],
    }
    if options.trainer == "trl":
        from trl import SFTConfig, SFTTrainer

        settings = SFTConfig(
            **given, packing=options.packing, max_length=work.max_length, dataset_num_proc=1
        )
        trainer: Trainer = SFTTrainer(args=settings, **shared)
    else:
        trainer = Trainer(
            args=TrainingArguments(**given),
            data_collator=DataCollatorForSeq2Seq(tokenizer),
            **shared,
        )
    trainer.data_collator = clocked.counting(trainer.data_collator)
    trainer.train()
    clock.save()


if __name__ == "__main__":
    main()
