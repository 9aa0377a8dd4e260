"""The one piece of work that every contender does: model, rows, evaluation rows, DeepSpeed's settings.

``make_work`` writes into a folder what a contender in another process needs:

    model/            a Hugging Face model with random weights, and its tokenizer
    rows.npz          the rows of the phase, in its order, tokenised once for all contenders
    evaluation.npz    the evaluation rows
    deepspeed.json    DeepSpeed's settings, those that polyphase itself trains with
    work.json         the settings: rows per step, learning rate, ...
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

from data_modules.phase_data_module import PhaseDataModule
from launch.composing import CONFIG_FOLDER, addable, prepare_root
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config
from trainer.curriculum import Phase
from trainer.deepspeed_config import deepspeed_config
from trainer.distributed import Ranks
from trainer.model import checked_tokenizer, load_model
from trainer.step_data import StepData, step_data
from trainer.train import make_data

PHASE = "mix"


@dataclass(frozen=True)
class Work:
    """What is trained and how.

    Attributes:
        data: folder of the ten tasks; None trains on the built-in benchmark.
        tokenizer: folder of a tokenizer; None with the built-in benchmark.
        rows_per_step: rows of an optimizer step, over all ranks.
        micro_batch_size: polyphase's, in units of ``max_length`` tokens.
        zero_stage: of all contenders but the bare PyTorch loop.
        max_length: longer rows are cut.
        hidden, layers: size of the model.
    """

    folder: str
    ranks: int
    data: str | None
    tokenizer: str | None
    steps: int
    rows_per_step: int = 32
    micro_batch_size: int = 2
    zero_stage: int = 1
    max_length: int = 512
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    hidden: int = 256
    layers: int = 6
    seed: int = 0

    def path(self, name: str) -> Path:
        """A file or folder of the work."""
        return Path(self.folder) / name

    def save(self) -> None:
        """Write ``work.json``."""
        self.path("work.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Work:
        """Read ``work.json``."""
        return cls(**json.loads((folder / "work.json").read_text(encoding="utf-8")))


def overrides(work: Work) -> list[str]:
    """The command line of the work for ``launch/train.py``."""
    if work.data is None:
        data = ["data=bench"]
    else:
        data = ["data=ten_tasks", f"data.root={work.data}", "data.overlong=truncate"]
    return [
        *data,
        "model=hf",
        f"model.path={work.path('model')}",
        f"data.cache_dir={work.path('cache')}",
        f"data.max_seq_len={work.max_length}",
        "curriculum=single",
        f"curriculum.phases.{PHASE}.lr={work.lr}",
        f"curriculum.phases.{PHASE}.schedule.shape=constant",
        f"curriculum.phases.{PHASE}.schedule.warmup_ratio=0.0",
        # enough rows for the steps, whatever an epoch has
        f"curriculum.phases.{PHASE}.epochs=null",
        f"curriculum.phases.{PHASE}.steps={work.steps}",
        f"optimizer.beta1={work.beta1}",
        f"optimizer.beta2={work.beta2}",
        f"optimizer.weight_decay={work.weight_decay}",
        f"optimizer.max_grad_norm={work.max_grad_norm}",
        f"global_batch_size={work.rows_per_step}",
        f"micro_batch_size={work.micro_batch_size}",
        f"seed={work.seed}",
        "precision=fp32",
        f"zero=zero{work.zero_stage}",
        "evaluation.before_training=false",
        "evaluation.at_phase_end=false",
        "interference=none",
        "checkpoint.sharded=false",
        "checkpoint.every_minutes=null",
        "checkpoint.export=false",
        "resume=never",
        f"output_dir={work.path('run')}",
    ]


def config_of(work: Work, *more: str) -> Config:
    """The work as polyphase's configuration."""
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = to_config(compose("train", overrides=addable([*overrides(work), *more])))
    prepare_root(config)
    return config


def make_work(work: Work) -> None:
    """Write the folder of a piece of work."""
    work.path("").mkdir(parents=True, exist_ok=True)
    work.save()
    _make_model(work)
    config = config_of(work)
    data = make_data(config, None)
    data.prepare()
    data.load()
    plan = data.plans[PHASE]
    _save_rows(work.path("rows.npz"), data, [int(row) for row in plan.rows])
    _save_evaluation(work.path("evaluation.npz"), data)
    settings = deepspeed_config(config, work.ranks)
    work.path("deepspeed.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _make_model(work: Work) -> None:
    if work.path("model/config.json").is_file():
        return
    # the benchmark's data bring a tokenizer of their own
    kind = "bench_scratch" if work.tokenizer is None else "tiny"
    given = [
        *("data=bench", f"model={kind}"),
        f"model.architecture.hidden_size={work.hidden}",
        f"model.architecture.intermediate_size={work.hidden * 11 // 4}",
        f"model.architecture.num_hidden_layers={work.layers}",
        f"model.architecture.num_attention_heads={work.hidden // 64}",
        f"model.architecture.num_key_value_heads={max(1, work.hidden // 128)}",
        "model.architecture.head_dim=64",
        "model.architecture.max_position_embeddings=4096",
    ]
    if work.tokenizer is not None:
        given.append(f"model.tokenizer={work.tokenizer}")
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = to_config(compose("train", overrides=addable(given)))
    prepare_root(config)
    tokenizer = checked_tokenizer(config.model, None)
    model = load_model(config.model, tokenizer, None, work.seed)
    model.save_pretrained(work.path("model"))
    tokenizer.save_pretrained(work.path("model"))


def _save_rows(path: Path, data: PhaseDataModule, rows: list[int]) -> None:
    store = data.plans[PHASE].store
    samples = [store.tokens(row) for row in rows]
    _save(path, [ids for ids, _ in samples], [mask for _, mask in samples])


def _save_evaluation(path: Path, data: PhaseDataModule) -> None:
    by_task, _ = data.eval_rows(PHASE, None)
    rows = [row for rows in by_task.values() for row in rows]
    _save(path, [row.input_ids for row in rows], [row.supervised for row in rows])


def _save(path: Path, ids: list, masks: list) -> None:
    np.savez(
        path,
        ids=np.concatenate([np.asarray(one, dtype=np.int32) for one in ids]),
        supervised=np.concatenate([np.asarray(one, dtype=bool) for one in masks]),
        lengths=np.array([len(one) for one in ids], dtype=np.int64),
    )


def load_rows(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(token ids, whether each is supervised) of every row."""
    saved = np.load(path)
    ends = np.cumsum(saved["lengths"])[:-1]
    ids, masks = np.split(saved["ids"], ends), np.split(saved["supervised"], ends)
    return list(zip(ids, masks, strict=True))


def ready_steps(work: Work, rank: int, ranks: int) -> list[StepData]:
    """What a rank of polyphase computes in every step, as tensors that are ready."""
    config = config_of(work)
    data = make_data(config, None)
    data.load()
    plan = data.plans[PHASE]
    phase = Phase(PHASE, 1, plan.steps, config.curriculum.phases[PHASE])
    place = Ranks(rank, ranks, rank, ranks)
    return [
        step_data(data, phase, list(plan.use()), index, place, work.micro_batch_size)
        for index in range(min(work.steps, plan.steps))
    ]


def threads_per_rank() -> int:
    """Threads of a rank where the ranks of this host share its cores."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ["LOCAL_WORLD_SIZE"]))
