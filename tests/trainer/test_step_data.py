"""A step's data: found by its number alone, and counted over all ranks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_modules.config import BoundaryConfig
from data_modules.phase_data_module import PhaseDataModule
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_task
from trainer.config.schema import Normalization, PhaseConfig
from trainer.curriculum import Phase, place
from trainer.distributed import Ranks
from trainer.step_data import StepData, step_data, trained_counts

BATCH = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PhaseDataModule:
    root: Path = tmp_path_factory.mktemp("data")
    sizes = {"code": 9, "math": 5, "qa": 14}
    tasks = {task: write_task(root, task, size) for task, size in sizes.items()}
    made = PhaseDataModule(
        data=data_config(root, tasks, packing=False),
        boundary=BoundaryConfig(),
        mixtures={"mix": PhaseConfig(epochs=1), "hard": PhaseConfig(epochs=3, tasks=["math"])},
        tokenizer=byte_tokenizer(CHATML),
        seed=0,
        global_batch_size=BATCH,
    )
    made.prepare()
    made.load()
    return made


@pytest.fixture
def phases(data: PhaseDataModule) -> list[Phase]:
    """``hard`` lies behind ``mix``, which lies behind ten steps of something else."""
    task = PhaseConfig(loss_normalization=Normalization.task)
    steps = {name: plan.steps for name, plan in data.plans.items()}
    return place({"mix": task, "hard": task}, steps, steps_before=10)


def of(data: PhaseDataModule, phase: Phase, index: int, rank: int = 0, ranks: int = 1) -> StepData:
    tasks = list(data.plans[phase.name].use())
    return step_data(data, phase, tasks, index, Ranks(rank, ranks, rank, ranks), 2)


def content(step: StepData) -> list[list[list[float]]]:
    """Tokens and loss weights of the rows of a step's batches."""
    fields = ("input_ids", "labels", "loss_weights")
    return [[getattr(one, name).tolist() for name in fields] for one in step.batches]


def test_it_does_not_matter_what_came_before(data: PhaseDataModule, phases: list[Phase]) -> None:
    for phase in phases:
        forth = [content(of(data, phase, index)) for index in range(phase.steps)]
        back = [content(of(data, phase, index)) for index in reversed(range(phase.steps))]
        assert forth == back[::-1]
        assert phase.steps == 1 or forth[0] != forth[1]


def test_counts_are_those_of_all_ranks(data: PhaseDataModule, phases: list[Phase]) -> None:
    for phase in phases:
        plan = data.plans[phase.name]
        store = plan.store
        for index in range(phase.steps):
            rows = plan.rows[index * BATCH : (index + 1) * BATCH]
            names = [data.tasks[store.task_ids[row]] for row in rows]
            expected_tokens: Counter[str] = Counter()
            for name, row in zip(names, rows, strict=True):
                expected_tokens[name] += int(np.sum(store.tokens(int(row))[1]))
            lengths = [len(store.tokens(int(row))[0]) for row in rows]
            for ranks in (1, 2, 4):
                for rank in range(ranks):
                    step = of(data, phase, index, rank, ranks)
                    assert step.rows == Counter(names)
                    assert step.answer_tokens == expected_tokens
                    assert step.tokens == sum(lengths)
                    assert step.pairs == sum(sum(range(1, length + 1)) for length in lengths)
                    assert step.supervised == sum(expected_tokens.values())


def test_ranks_share_a_step(data: PhaseDataModule, phases: list[Phase]) -> None:
    def tokens(steps: list[StepData]) -> list[list[int]]:
        rows = [row.tolist() for step in steps for one in step.batches for row in one.input_ids]
        return sorted([token for token in row if token] for row in rows)  # 0 pads

    mix = phases[0]
    for index in range(mix.steps):
        alone = tokens([of(data, mix, index)])
        assert tokens([of(data, mix, index, rank, 2) for rank in range(2)]) == alone
        assert tokens([of(data, mix, index, rank, 4) for rank in range(4)]) == alone


def test_what_a_phase_was_trained_on(data: PhaseDataModule, phases: list[Phase]) -> None:
    """The sum over its steps, whoever trained them; steps that were passed over do not count."""
    for phase in phases:
        steps = [of(data, phase, index) for index in range(phase.steps)]
        for passed in ([], [phase.first_step], [phase.last_step, phase.first_step, 1, 999]):
            kept = [
                step for number, step in enumerate(steps, phase.first_step) if number not in passed
            ]
            rows, tokens = trained_counts(data, phase, passed)
            for number, task in enumerate(data.tasks):
                assert rows[number] == sum(step.rows.get(task, 0) for step in kept)
                assert tokens[number] == sum(step.answer_tokens.get(task, 0) for step in kept)
