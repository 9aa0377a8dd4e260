"""Evaluate a model on every task that has evaluation rows, in every prompt set asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from data_modules.collate import collate
from data_modules.config import PromptSet
from data_modules.evaluation_rows import EvalRow
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prompt_sets import available
from data_modules.rejects import count_rejects, reject_words
from data_modules.samples import Sample, SampleStore
from trainer import watchdog
from trainer.config.schema import EvaluationConfig
from trainer.console import LOGGER
from trainer.evaluation.behaviour import (
    EXAMPLES_PER_TASK,
    BehaviourJudge,
    crosstalk,
    leaks,
    training_examples,
)
from trainer.evaluation.generate import Answer, generate
from trainer.evaluation.judge import JudgedSet, judge_set
from trainer.evaluation.metrics import NO_METRIC
from trainer.evaluation.model import EvaluatedModel
from trainer.evaluation.results import Crosstalk, Evaluation, TaskResult
from trainer.evaluation.soft_crosstalk import soft_crosstalk
from trainer.evaluation.train_losses import TrainLosses, train_losses, write_train_losses
from trainer.run_directory import write_json_lines

RowsOf = dict[str, list[EvalRow]]

# Examples that are kept of every pair of task asked and behaviour shown.
_LEAKS_PER_PAIR = 5

AnswersOf = dict[str, dict[PromptSet, list[Answer]]]
Engine = Callable[[EvaluatedModel, Sequence[EvalRow], Sequence[int]], list[Answer]]


class Evaluator:
    """Evaluates models of one run; reads the rows and fits the judge of behaviours once.

    Args:
        pause: called on all ranks between batches of answers: a long evaluation can be left there, by
            an exception.
        engine: what answers rows, given the model, the rows and the most new tokens of each; None is
            the model itself.
    """

    def __init__(
        self,
        data: PhaseDataModule,
        config: EvaluationConfig,
        seed: int,
        rank: int,
        pause: Callable[[], None] = lambda: None,
        engine: Engine | None = None,
    ) -> None:
        self._pause = pause
        self._engine = engine or self._generated
        self.data, self.config, self.seed, self.rank = data, config, seed, rank
        self._behaviour: BehaviourJudge | None = None
        self._warned: set[str] = set()

    def evaluate(self, model: EvaluatedModel, phase: str, folder: Path) -> Evaluation:
        """Evaluate with the prompts of ``phase``; the same result on every rank.

        Args:
            folder: the main rank writes ``predictions/<prompt set>/<task>.jsonl``, ``leaks.jsonl`` and
                ``train_losses.jsonl`` there.
        """
        sets = {one: self._rows(phase, one) for one in self._prompt_sets()}
        ordinary = sets[PromptSet.ordinary]
        losses = eval_losses(model, self.data, ordinary, self.config.batch_size, self.rank)
        answers = self._answers(model, sets)
        soft: dict[str, dict[str, float]] = {}
        special = [task for task in ordinary if not self.data.data.tasks[task].general]
        if self.config.soft_crosstalk_rows and len(special) > 1:
            soft = soft_crosstalk(
                model,
                self.data.tokenizer,
                ordinary,
                special,
                self.config.soft_crosstalk_rows,
                self.config.batch_size,
                self.rank,
            )
        self._pause()
        trained = self._train_losses(model, phase)

        def judged() -> Evaluation:
            if trained is not None:
                write_train_losses(folder / "train_losses.jsonl", trained, self.data, phase)
            return self._judged(sets, losses, answers, soft, trained, folder)

        with watchdog.paused("judging answers"):
            return self._on_main_rank(model.world_size, judged)

    def _train_losses(self, model: EvaluatedModel, phase: str) -> TrainLosses | None:
        """Losses of training rows; None without a plan, as for a model that is only evaluated."""
        if not self.config.train_rows or phase not in self.data.plans:
            return None
        return train_losses(
            model,
            self.data,
            phase,
            self.config.train_rows,
            self.seed,
            self.config.batch_size,
            self.rank,
        )

    def _prompt_sets(self) -> list[PromptSet]:
        """The ordinary set is always there: losses are measured on it."""
        asked = self.config.prompt_sets if self.config.generate else []
        return list(dict.fromkeys([PromptSet.ordinary, *asked]))

    def _rows(self, phase: str, prompt_set: PromptSet) -> RowsOf:
        rows_of, rejects = self.data.eval_rows(phase, self.config.rows_per_task, prompt_set)
        if rejects:
            words = reject_words(count_rejects(rejects))
            self._warn(f"evaluation rows of set '{prompt_set.value}' left out: {words}")
        for task in self.data.evaluated_tasks:
            why = available(self.data.data, task, prompt_set)
            if why:
                self._warn(f"prompt set '{prompt_set.value}' leaves out task '{task}': {why}")
        return {task: rows for task, rows in rows_of.items() if rows}

    def _warn(self, words: str) -> None:
        if words not in self._warned:
            self._warned.add(words)
            LOGGER.warning("%s", words)

    def _answers(self, model: EvaluatedModel, sets: Mapping[PromptSet, RowsOf]) -> AnswersOf:
        """Greedy answers of every task that a metric judges, all of them asked at once."""
        if not self.config.generate:
            return {}
        asked = [
            (task, one)
            for task, settings in self.data.data.tasks.items()
            for one, rows_of in sets.items()
            if settings.metric != NO_METRIC and task in rows_of
        ]
        rows = [row for task, one in asked for row in sets[one][task]]
        if not rows:
            return {}
        limits = [self.data.data.tasks[row.task].max_new_tokens for row in rows]
        given = iter(self._engine(model, rows, limits))
        result: AnswersOf = {}
        for task, one in asked:
            result.setdefault(task, {})[one] = [next(given) for _ in sets[one][task]]
        return result

    def _generated(
        self, model: EvaluatedModel, rows: Sequence[EvalRow], limits: Sequence[int]
    ) -> list[Answer]:
        """The model's own answers."""
        batch_size = self.config.batch_size
        return generate(
            model, self.data.tokenizer, rows, limits, batch_size, self.rank, self._pause
        )

    def _on_main_rank(self, world_size: int, work: Any) -> Evaluation:
        """The main rank's result, or its error, on every rank."""
        found: list[Any] = [None]
        if self.rank == 0:
            try:
                found = [work()]
            except Exception as error:  # raised on all ranks below: none may wait for ever
                if world_size == 1:
                    raise
                found = [error]
        if world_size > 1:
            dist.broadcast_object_list(found, src=0)
        if isinstance(found[0], Exception):
            raise found[0]
        evaluation: Evaluation = found[0]
        return evaluation

    def _judged(
        self,
        sets: Mapping[PromptSet, RowsOf],
        losses: Mapping[str, float],
        answers: AnswersOf,
        soft: dict[str, dict[str, float]],
        trained: TrainLosses | None,
        folder: Path,
    ) -> Evaluation:
        tasks = self.data.data.tasks
        behaviour = self._judge(answers)
        judged: dict[PromptSet, dict[str, JudgedSet]] = {one: {} for one in sets}
        for task, by_set in answers.items():
            for prompt_set, given in by_set.items():
                rows = sets[prompt_set][task]
                one = judge_set(
                    task,
                    tasks[task],
                    rows,
                    given,
                    [self.data.tokenizer.decode(row.prompt_ids) for row in rows],
                    behaviour,
                    self.config.bootstrap_samples,
                )
                judged[prompt_set][task] = one
                name = f"predictions/{prompt_set.value}/{task}.jsonl"
                write_json_lines(folder / name, one.predictions)
        crosstalks: dict[str, Crosstalk] = {}
        if behaviour is not None:
            write_json_lines(folder / "leaks.jsonl", _leaks(judged))
            for prompt_set, by_task in judged.items():
                if any(
                    one.behaviours is not None and not tasks[task].general
                    for task, one in by_task.items()
                ):
                    crosstalks[prompt_set.value] = self._crosstalk(by_task, behaviour)
        return Evaluation(
            {
                task: TaskResult(
                    rows=len(rows),
                    loss=losses[task],
                    general=tasks[task].general,
                    metric="" if tasks[task].metric == NO_METRIC else tasks[task].metric,
                    sets={
                        one.value: by_task[task].result
                        for one, by_task in judged.items()
                        if task in by_task
                    },
                    train_loss=None if trained is None else trained.per_task.get(task),
                )
                for task, rows in sets[PromptSet.ordinary].items()
            },
            crosstalks,
            soft,
        )

    def _crosstalk(self, judged: Mapping[str, JudgedSet], behaviour: BehaviourJudge) -> Crosstalk:
        """Crosstalk of one prompt set."""
        shown = {task: one for task, one in judged.items() if one.behaviours is not None}
        return crosstalk(
            {task: one.result.behaviours for task, one in shown.items()},
            [task for task in shown if self.data.data.tasks[task].general],
            behaviour.gold_report.leaked,
            {
                task: [
                    score
                    for score, found in zip(one.scores, one.behaviours or [], strict=True)
                    if found == task and score is not None
                ]
                for task, one in shown.items()
            },
        )

    def _judge(self, answers: AnswersOf) -> BehaviourJudge | None:
        """The judge of behaviours; None where none is asked for or one task alone is answered."""
        if not self.config.behaviours or len(answers) < 2:
            return None
        if self._behaviour is None:
            tasks = {task: self.data.data.tasks[task] for task in answers}
            examples = training_examples(self.data, EXAMPLES_PER_TASK, self.seed)
            self._behaviour = BehaviourJudge.fit(tasks, examples, self.seed)
            for task in tasks:
                if task not in self._behaviour.tasks:
                    self._warn(
                        f"the behaviour of answers to task '{task}' is not judged: it has neither "
                        "a format nor training rows"
                    )
        return self._behaviour


def _leaks(judged: Mapping[PromptSet, Mapping[str, JudgedSet]]) -> list[dict[str, str]]:
    """Some examples of every leak."""
    found: list[dict[str, str]] = []
    for prompt_set, by_task in judged.items():
        for task, one in by_task.items():
            kept = {
                name: [row[field] for row in one.predictions]
                for name, field in (
                    *(("requests", "request"), ("answers", "answer")),
                    *(("golds", "gold"), ("origins", "origin")),
                )
            }
            if one.behaviours is not None:
                found += leaks(
                    task, prompt_set.value, one.behaviours, **kept, per_pair=_LEAKS_PER_PAIR
                )
    return found


def eval_losses(
    model: EvaluatedModel,
    data: PhaseDataModule,
    rows_of: Mapping[str, Sequence[EvalRow]],
    batch_size: int,
    rank: int,
) -> dict[str, float]:
    """Mean nll per supervised token of each task, in nats; the same on every rank."""
    if not rows_of:
        return {}
    store = SampleStore.build(
        data.tasks,
        (
            Sample(task, row.input_ids, row.supervised)
            for task, rows in rows_of.items()
            for row in rows
        ),
    )
    by_length = np.argsort(store.lengths, kind="stable")
    batches = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    real = len(batches)
    batches += [batches[-1][:1]] * (-real % model.world_size)
    sums = torch.zeros(model.tasks, dtype=torch.float64, device=model.device)
    for number in range(rank, len(batches), model.world_size):
        watchdog.at(f"evaluation losses: batch {number + 1} of {len(batches)}")
        rows = batches[number]
        sums += model.nll(
            collate(
                store,
                rows,
                np.ones(len(rows)),
                data.tokenizer.pad_token_id,
                packing=False,
                empty=number >= real,
            )
        )
    if model.world_size > 1:
        dist.all_reduce(sums)
    tokens = np.bincount(store.task_ids, weights=store.answer_tokens, minlength=model.tasks)
    total = sums.tolist()
    return {
        task: total[data.tasks.index(task)] / float(tokens[data.tasks.index(task)])
        for task in rows_of
    }
