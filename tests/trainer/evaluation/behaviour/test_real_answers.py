"""Ten real tasks in two languages: right answers keep their task, and leaks are found.

The rows are looked for under ``POLYPHASE_SHARED``; without them the tests skip and say so. Run with
``-s`` to see the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from data_modules.config import BoundaryConfig, DataConfig, TaskConfig
from data_modules.mixture import MixtureConfig
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.evaluation_records import read_eval_records
from data_modules.seeding import generator
from tests.shared_data import CHATML, REPOSITORY, byte_tokenizer, shared
from trainer.evaluation.behaviour import BehaviourJudge, Example, training_examples
from trainer.evaluation.behaviour.judge import FALSE_ALARMS

Examples = Mapping[str, Sequence[Example]]
FOLDS = 5


def real_data(cache: Path) -> DataConfig:
    schema = OmegaConf.structured(TaskConfig)
    tasks = {
        path.stem: OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(path)))
        for path in sorted((REPOSITORY / "conf/task/ten_tasks").glob("*.yaml"))
    }
    root = str(shared("data/ten_tasks"))
    return DataConfig(name="real", root=root, tasks=tasks, cache_dir=str(cache), workers=1)


def module_of(data: DataConfig) -> PhaseDataModule:
    tokenizer = byte_tokenizer(CHATML)
    return PhaseDataModule(data, BoundaryConfig(), {"mix": MixtureConfig()}, tokenizer, 0, 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    return real_data(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def training(data: DataConfig) -> dict[str, list[Example]]:
    return training_examples(module_of(data), 1000, seed=0)


@pytest.fixture(scope="module")
def judge(data: DataConfig, training: Examples) -> BehaviourJudge:
    return BehaviourJudge.fit(data.tasks, training, seed=0)


def judged(judge: BehaviourJudge, rows: Examples) -> dict[str, list[str]]:
    """Behaviours of right answers."""
    return {
        task: judge.behaviours(
            task, [one.request for one in of_task], [one.answer for one in of_task]
        )
        for task, of_task in rows.items()
    }


def shuffled(judge: BehaviourJudge, rows: Examples) -> dict[tuple[str, str], list[str]]:
    """(task asked, task answered) -> behaviours of the answers under requests drawn from the other."""
    draw = generator(0, "shuffled")
    found = {}
    for asked, of_asked in rows.items():
        for given, of_given in rows.items():
            if given != asked:
                requests = [
                    of_asked[i].request for i in draw.integers(len(of_asked), size=len(of_given))
                ]
                answers = [one.answer for one in of_given]
                found[asked, given] = judge.behaviours(asked, requests, answers)
    return found


def swapped(judge: BehaviourJudge, rows: Examples) -> dict[str, list[str]]:
    """Behaviours of right answers under another request of their own task: the manner is right, what
    they say is not."""
    return {
        task: judge.behaviours(
            task,
            [of_task[place - 1].request for place in range(len(of_task))],
            [one.answer for one in of_task],
        )
        for task, of_task in rows.items()
    }


def attribution(found: Mapping[str, Sequence[str]]) -> tuple[float, float, float]:
    """Share of right answers judged their task's, over rows and on the mean of tasks, and false
    alarms on the mean of tasks."""
    shares = {task: np.mean([one == task for one in shown]) for task, shown in found.items()}
    rows = sum(len(shown) for shown in found.values())
    right = sum(shares[task] * len(shown) for task, shown in found.items()) / rows
    alarms = [
        np.mean([one not in (task, "none") for one in shown]) for task, shown in found.items()
    ]
    return float(right), float(np.mean(list(shares.values()))), float(np.mean(alarms))


def found_leaks(found: Mapping[tuple[str, str], Sequence[str]]) -> dict[tuple[str, str], float]:
    return {
        (asked, given): float(np.mean([one != asked for one in shown]))
        for (asked, given), shown in found.items()
    }


def told(
    name: str, golds: Mapping[str, Sequence[str]], pairs: Mapping[tuple[str, str], Sequence[str]]
) -> tuple[float, float, float]:
    """Attribution over rows, false alarms and leaks found; printed with their parts."""
    right, mean_right, alarms = attribution(golds)
    leaks = found_leaks(pairs)
    special = [share for (asked, _), share in leaks.items() if asked != "open_chat"]
    total = float(np.mean(list(leaks.values())))
    print(f"\n{name}: attributed {right:.4f} (mean of tasks {mean_right:.4f}), ", end="")
    print(
        f"false alarms {alarms:.4f}, leaks found {total:.4f}, in specialised {np.mean(special):.4f}"
    )
    for asked in golds:
        row = [share for (one, _), share in leaks.items() if one == asked]
        own = np.mean([one == asked for one in golds[asked]])
        print(f"  {asked:24s} {own:.3f}  leaks found {np.mean(row):.3f}, least {min(row):.3f}")
    return right, alarms, total


def test_cross_validated_on_the_training_rows(data: DataConfig, training: Examples) -> None:
    golds: dict[str, list[str]] = {task: [] for task in training}
    pairs: dict[tuple[str, str], list[str]] = {}
    wrong: dict[str, list[str]] = {task: [] for task in training}
    order = {
        task: generator(0, "outer", task).permutation(len(training[task])) for task in training
    }
    for fold in range(FOLDS):
        held_out = {
            task: [rows[i] for i in order[task][fold::FOLDS]] for task, rows in training.items()
        }
        rest = {
            task: [rows[i] for place, i in enumerate(order[task]) if place % FOLDS != fold]
            for task, rows in training.items()
        }
        judge = BehaviourJudge(data.tasks, rest, seed=0)
        for task, shown in judged(judge, held_out).items():
            golds[task] += shown
        for task, shown in swapped(judge, held_out).items():
            wrong[task] += shown
        for pair, shown in shuffled(judge, held_out).items():
            pairs.setdefault(pair, []).extend(shown)
    assert sum(map(len, golds.values())) == 1950
    right, alarms, total = told("cross-validation", golds, pairs)
    _, _, wrong_alarms = attribution(wrong)
    print(f"  right manner, another request's answer: judged a leak {wrong_alarms:.3f}")
    assert right >= 0.95
    assert alarms < 0.02
    assert wrong_alarms < 0.15
    assert total >= 0.90


def test_on_the_evaluation_rows(data: DataConfig, judge: BehaviourJudge) -> None:
    records, _ = read_eval_records(data)
    rows = {
        task: [Example(one.request, one.answer, one.language) for one in of_task]
        for task, of_task in records.items()
    }
    assert sum(map(len, rows.values())) == 300
    right, _, total = told("evaluation rows", judged(judge, rows), shuffled(judge, rows))
    assert right >= 0.95
    assert total >= 0.90


def test_the_report_agrees_with_its_parts(judge: BehaviourJudge, training: Examples) -> None:
    report = judge.gold_report
    assert report.by_format == []
    assert report.rows == {task: len(rows) for task, rows in training.items()}
    assert np.mean(list(report.leaked.values())) <= FALSE_ALARMS
    assert min(report.attributed.values()) >= 0.9
    for task, shares in report.confusion.items():
        assert sum(shares.values()) == pytest.approx(1)
        assert report.attributed[task] == shares[task]
        assert report.attributed[task] + report.leaked[task] + shares.get(
            "none", 0
        ) == pytest.approx(1)
