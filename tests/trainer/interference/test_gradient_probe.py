"""The whole measurement on tasks whose relation is known: the same task twice, and its opposite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from data_modules.config import BoundaryConfig, SourceConfig, TaskConfig
from data_modules.mixture import MixtureConfig
from data_modules.phase_data_module import PhaseDataModule
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_rows
from trainer import attention
from trainer.config.schema import Config
from trainer.engine import ZeroEngine
from trainer.interference.watch import GradientProbe, InterferenceWatch
from trainer.loss import MultiTaskLM, SupervisedHead, inputs_of

ANSWERS = {"opposite": "n", "same": "y", "twin": "y"}
ROWS = 24


class PlainEngine(ZeroEngine):
    """The engine's own measuring, on a model that DeepSpeed has not wrapped."""

    def __init__(self, model: Any, tasks: int) -> None:
        self.module = MultiTaskLM(model, tasks)
        self.engine = self.module
        self.device, self.world_size, self.tasks, self.stage = torch.device("cpu"), 1, tasks, 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PhaseDataModule:
    """Three tasks that ask alike, two of which answer alike."""
    root = tmp_path_factory.mktemp("probe")
    draw = np.random.default_rng(0)
    tasks = {}
    for task, answer in ANSWERS.items():
        words = ["".join(draw.choice(list("abcdefgh"), 6)) for _ in range(ROWS)]
        rows = [{"instruction": word, "output": answer} for word in words]
        write_rows(root / f"train/{task}.jsonl", rows)
        tasks[task] = TaskConfig(sources={"main": SourceConfig(train=f"train/{task}.jsonl")})
    made = PhaseDataModule(
        data=data_config(root, tasks, packing=False),
        boundary=BoundaryConfig(),
        mixtures={"mix": MixtureConfig(epochs=1)},
        tokenizer=byte_tokenizer(CHATML),
        seed=0,
        global_batch_size=ROWS,
    )
    made.prepare()
    made.load()
    return made


@pytest.fixture(scope="module")
def engine(data: PhaseDataModule) -> PlainEngine:
    """Trained on all three until it knows how to answer, and cannot know which."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    described = AutoConfig.for_model(
        "qwen2",
        vocab_size=264,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(
        described, dtype=torch.float32, attn_implementation=attention.NAME
    )
    SupervisedHead.adopt(model.get_output_embeddings())
    made = PlainEngine(model, len(data.tasks))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rows = np.asarray(data.plans["mix"].rows)
    (batch,) = data.rank_batches("mix", rows, np.full(len(rows), 0.5 / len(rows)), 0, 1, len(rows))
    for _ in range(40):
        optimizer.zero_grad()
        made.module(**inputs_of(batch, made.device))[0].backward()
        optimizer.step()
    optimizer.zero_grad()
    return made


def settings(rows: int) -> Config:
    config = Config(micro_batch_size=4)
    config.interference.rows_per_task = rows
    return config


def test_twins_and_opposites(data: PhaseDataModule, engine: PlainEngine) -> None:
    found = GradientProbe(engine, data, settings(ROWS), 0).measure("mix")
    assert found.tasks == ["opposite", "same", "twin"]
    cosine = np.array(found.conflict.cosine)
    assert cosine[1, 2] > 0.9
    assert cosine[0, 1] < -0.7
    assert cosine[0, 2] < -0.7
    assert found.conflict.rate == pytest.approx(2 / 3)
    store = data.plans["mix"].store
    for task, loss in zip(found.tasks, found.loss, strict=True):
        rows = store.rows_of(task)  # all of them are in the sample
        tokens = int(np.asarray(store.answer_tokens)[rows].sum())
        (batch,) = data.rank_batches("mix", rows, np.full(ROWS, 1 / tokens), 0, 1, ROWS)
        with torch.no_grad():
            exact = engine.module(**inputs_of(batch, engine.device))[0]
        assert loss == pytest.approx(float(exact), rel=1e-5)
    assert all(p.grad is None for p in engine.module.parameters())


def test_few_rows_tell_the_same_story(data: PhaseDataModule, engine: PlainEngine) -> None:
    found = GradientProbe(engine, data, settings(6), 0).measure("mix")
    cosine = np.array(found.conflict.cosine)
    assert cosine[1, 2] > 0.8 > -0.5 > cosine[0, 1]


def test_a_task_with_one_row_is_left_out(data: PhaseDataModule, engine: PlainEngine) -> None:
    assert GradientProbe(engine, data, settings(1), 0).measure("mix").tasks == []


def test_measured_when_asked_for(
    data: PhaseDataModule, engine: PlainEngine, tmp_path: Path
) -> None:
    path = tmp_path / "interference.jsonl"
    config = settings(4)
    InterferenceWatch(engine, data, config, 0, path).after_step("mix", 2)
    assert not path.exists()
    config.interference.every_steps = 2
    watch = InterferenceWatch(engine, data, config, 0, path)
    for step in range(1, 6):
        watch.after_step("mix", step)
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [entry["step"] for entry in entries] == [2, 4]
    assert list(entries[0]) == [
        *("step", "phase", "tasks", "cosine", "self_cosine", "norm", "conflict_rate", "loss"),
        *("seconds", "share_of_time"),
    ]
    # nothing else was done meanwhile
    assert 0.5 < entries[1]["share_of_time"] <= 1
    assert entries[0]["cosine"] == entries[1]["cosine"], "the same rows every time"
