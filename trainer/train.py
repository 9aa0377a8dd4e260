"""The run: plan, then every phase step by step, evaluated and exported at its end."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_modules.collate import Batch
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prefetch import prefetched
from data_modules.wording import phase_boundary
from trainer import checkpoint, distributed
from trainer.closing import close_run
from trainer.config.schema import Config, OptimizerState
from trainer.config.strict_merge import to_plain, to_yaml
from trainer.config.validate import validate
from trainer.console import (
    LOGGER,
    PhaseProgress,
    make_console,
    quieten_libraries,
    start_logging,
)
from trainer.course import Course, course_of, listed_course
from trainer.curriculum import Phase, lr_at
from trainer.distributed import Ranks
from trainer.engine import StepSums, ZeroEngine
from trainer.evaluation import results as evaluation_results
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.figures import figures_of
from trainer.evaluation.results import Evaluation
from trainer.export import export
from trainer.interference.watch import InterferenceWatch
from trainer.metrics import Metrics, open_metrics
from trainer.model import adapt, checked_tokenizer, load_model, max_positions
from trainer.model_card import model_card
from trainer.negatives_watch import NegativesWatch
from trainer.objective import row_weights
from trainer.plan_view import plan_json, print_plan
from trainer.plan_warnings import phase_warnings, warnings_of
from trainer.report import chart_files
from trainer.run_directory import (
    INITIAL,
    RunDirectory,
    environment,
    step_column,
    write_json,
    write_text,
)
from trainer.start import Start, find_start


def make_data(
    config: Config, init_from: str | None, course: Course | None = None
) -> PhaseDataModule:
    """The data module of the selected phases; no data is read yet.

    Args:
        course: None leaves every phase that picks its tasks with all that it may pick.

    Raises:
        ConfigFault: files of the model are damaged, or its tokenizer cannot be loaded or does not fit.
    """
    tokenizer = checked_tokenizer(config.model, init_from)
    course = course or listed_course(config)
    return PhaseDataModule(
        data=config.data,
        boundary=config.boundary,
        mixtures=course.phases,
        tokenizer=tokenizer,
        seed=config.seed,
        global_batch_size=config.global_batch_size,
        max_steps=config.limits.steps_per_phase,
        undecided=course.undecided(),
    )


def train(config: Config) -> dict[str, Evaluation]:
    """Run the selected phases under the ranks that the launcher started.

    May be called several times in one process, which then keeps its process group; the caller
    ends it with ``distributed.shutdown``.

    Returns:
        Evaluations by column (``initial``, then phases), in training order.

    Raises:
        UserFault: on every rank, before any of them trains.
    """
    ranks = distributed.ranks_from_environment()
    validate(config, ranks.world_size)
    quieten_libraries()
    distributed.set_threads(config.cluster, ranks)
    torch.use_deterministic_algorithms(config.deterministic)
    torch.manual_seed(config.seed)  # dropout, where a model has any
    run = RunDirectory(Path(config.output_dir))
    start = find_start(config, run)
    course = course_of(config, start, run)
    data = make_data(config, start.init_from, course)
    device = distributed.init(config.cluster, ranks)
    distributed.on_first_local_rank(ranks, data.prepare)
    data.load()
    model = distributed.on_every_rank(
        ranks, lambda: load_model(config.model, data.tokenizer, start.init_from, config.seed)
    )
    model = adapt(model, config.adaptation)
    return Run(config, ranks, run, start, course, data, model, device).all_phases()


@dataclass(frozen=True)
class _StepData:
    """One step's micro-batches for this rank, and what the step holds on all ranks.

    Attributes:
        tokens: input tokens.
        rows, answer_tokens: task -> rows with right answers, and their supervised tokens.
    """

    batches: list[Batch]
    tokens: int
    rows: dict[str, int]
    answer_tokens: dict[str, int]


@dataclass
class _Pending:
    """A step whose sums are still on their way from the device.

    ``answer_tokens`` counts the positives'; ``seconds`` is the wall time of the step's turn of the loop.
    """

    global_step: int
    phase: Phase
    lr: float
    data: _StepData
    sums: StepSums
    seconds: float
    waited: float


class Run:
    """One training run over its phases."""

    def __init__(
        self,
        config: Config,
        ranks: Ranks,
        run: RunDirectory,
        start: Start,
        course: Course,
        data: PhaseDataModule,
        model: Any,
        device: torch.device,
    ) -> None:
        self.config, self.ranks, self.run, self.start, self.data = config, ranks, run, start, data
        self.course = course
        self.phases: list[Phase] = []
        self.plan: Any = {}
        self._place()
        self.console = make_console()
        self.metrics = self._open()
        self.engine = ZeroEngine(model, len(data.tasks), config, device, ranks.world_size)
        self.evaluator = Evaluator(data, config.evaluation, config.seed, ranks.rank)
        self.interference = InterferenceWatch(
            self.engine, data, config, ranks.rank, run.interference
        )
        self.evaluations = self._earlier_evaluations()

    def _place(self) -> list[Phase]:
        """Number the steps of the phases as far as their tasks are known; those that are new."""
        numbered = len(self.phases)
        steps = {name: plan.steps for name, plan in self.data.plans.items()}
        self.phases = self.course.placed(steps, self.start.steps_before)
        world_size = self.ranks.world_size
        self.plan = plan_json(self.data, self.phases, self.config, world_size, self.course)
        for phase in self.phases[numbered:]:
            fingerprint = self.plan["phases"][phase.name]["fingerprint"]
            distributed.check_equal(f"the plan of phase '{phase.name}'", fingerprint, self.ranks)
        return self.phases[numbered:]

    def _pick_tasks(self, name: str) -> None:
        """Pick the tasks of a phase that is about to start, and plan it."""
        choice = distributed.from_main(
            self.ranks, lambda: self.course.choose(name, self.evaluations)
        )
        self.course.take(name, choice)
        self.data.decide(name, choice.picked)
        distributed.on_first_local_rank(self.ranks, lambda: self.data.prepare_plan(name))
        self.data.load_plan(name)
        placed = self._place()
        if self.ranks.is_main:
            write_json(self.run.root / "plan.json", self.plan)
            print_plan(self.console, self.plan, placed, self.config, self.course)
        LOGGER.info("phase '%s': tasks %s", name, choice.words)
        for warning in phase_warnings(self.plan, placed, self.config):
            LOGGER.warning(warning)

    def _open(self) -> Metrics:
        """Write the run's own description, print the plan, open logs and metrics."""
        config, run, main = self.config, self.run, self.ranks.is_main
        replaces = run.metrics.is_file() and not self.start.earlier_phases
        if main:
            run.begin(list(self.course.phases), bool(self.start.earlier_phases))
            run.drop_metrics_after(self.start.steps_before)
            write_text(run.root / "config.yaml", to_yaml(config))
            write_json(run.root / "plan.json", self.plan)
            write_json(run.root / "environment.json", environment(self.ranks.world_size))
        start_logging(run.log(self.ranks.rank), main)
        if main:
            print_plan(self.console, self.plan, self.phases, config, self.course)
        LOGGER.info(self.start.words)
        for name, choice in self.course.choices.items():
            LOGGER.info("phase '%s': tasks %s", name, choice.words)
        if main and replaces:
            LOGGER.warning(
                "%s held an earlier run, which this one replaces; run_name=... keeps both", run.root
            )
        positions = max_positions(config.model, self.data.tokenizer, self.start.init_from)
        for warning in warnings_of(self.plan, self.phases, config, positions):
            LOGGER.warning(warning)
        return open_metrics(config.logging, config.run_name, run.metrics, to_plain(config), main)

    def _earlier_evaluations(self) -> dict[str, Evaluation]:
        found: dict[str, Evaluation] = {}
        for column in (INITIAL, *self.start.earlier_phases):
            path = self.run.evaluation(column)
            if self.start.earlier_phases and path.is_file():
                found[column] = evaluation_results.load(path)
        return found

    def all_phases(self) -> dict[str, Evaluation]:
        """Train, evaluate and export phase by phase."""
        if self.config.evaluation.before_training and not self.evaluations:
            self._evaluate(INITIAL, self.phases[0], self.start.steps_before)
        for number, name in enumerate(self.course.phases):
            if name in self.course.waiting:
                self._pick_tasks(name)
            phase = self.phases[number]
            if number and phase.config.optimizer_state is OptimizerState.reset:
                self.engine.reset_optimizer_state()
            self._train_phase(phase)
            self._finish_phase(phase)
        if self.ranks.is_main:
            close_run(self.console, self.run, self.evaluations)
            self.metrics.pictures(self.phases[-1].last_step, chart_files(self.run))
        self.metrics.close()
        return self.evaluations

    def _train_phase(self, phase: Phase) -> None:
        progress = PhaseProgress(
            phase.name, phase.steps, self.config.logging.console_seconds, self.ranks.is_main
        )
        tasks = list(self.data.plans[phase.name].use())
        watch = NegativesWatch()
        trained_rows, trained_tokens = Counter[str](), Counter[str]()
        pending: _Pending | None = None
        clock = time.perf_counter()
        steps = prefetched(lambda index: self._step_data(phase, tasks, index), phase.steps)
        for index, (step, waited) in enumerate(steps):
            global_step = phase.first_step + index
            sums = self.engine.train_step(step.batches, lr_at(self.phases, global_step))
            trained_rows.update(step.rows)
            trained_tokens.update(step.answer_tokens)
            # Figures are read one step late, so that the host never waits for the device.
            if pending is not None:
                self._record(pending, progress, watch)
            self.interference.after_step(phase.name, global_step)
            seconds = time.perf_counter() - clock
            pending = _Pending(global_step, phase, self.engine.lr, step, sums, seconds, waited)
            self._evaluate_between(phase, global_step)
            clock = time.perf_counter()  # an evaluation is no part of a step
        assert pending is not None, "a phase has at least one step"
        self._record(pending, progress, watch)
        self._record_mixture(phase, trained_rows, trained_tokens)
        progress.close()

    def _evaluate_between(self, phase: Phase, global_step: int) -> None:
        settings = self.config.evaluation
        every, at_end = settings.every_steps, global_step == phase.last_step
        if every and global_step % every == 0 and not (at_end and settings.at_phase_end):
            self._evaluate(step_column(global_step), phase, global_step)

    def _step_data(self, phase: Phase, phase_tasks: list[str], index: int) -> _StepData:
        """This rank's micro-batches of a step, and the counts of the whole step."""
        plan = self.data.plans[phase.name]
        rows = plan.step_rows(index)
        task_ids, answers = plan.store.task_ids[rows], plan.store.answer_tokens[rows]
        signs = plan.store.signs[rows]
        weights = row_weights(
            phase.config.loss_normalization,
            phase.config.loss_weights,
            phase_tasks,
            self.data.tasks,
            task_ids,
            answers,
            signs,
            phase.config.negatives.weight,
        )
        batches = self.data.step_batches(
            phase.name,
            index,
            weights,
            self.ranks.rank,
            self.ranks.world_size,
            self.config.micro_batch_size,
        )
        right = signs > 0
        count = len(self.data.tasks)
        row_counts = np.bincount(task_ids[right], minlength=count)
        token_counts = np.bincount(task_ids[right], answers[right], count)
        present = [(task, name) for task, name in enumerate(self.data.tasks) if row_counts[task]]
        return _StepData(
            batches,
            tokens=int(plan.store.lengths_of(rows).sum()),
            rows={name: int(row_counts[task]) for task, name in present},
            answer_tokens={name: int(token_counts[task]) for task, name in present},
        )

    def _record_mixture(self, phase: Phase, rows: Counter[str], tokens: Counter[str]) -> None:
        """What the phase was trained on beside what its mixture asked for, as shares."""
        values: dict[str, Any] = {"phase": phase.name}
        for task, asked in self.data.plans[phase.name].asked.items():
            values[f"mixture/asked_row_share/{task}"] = asked
            values[f"mixture/row_share/{task}"] = rows[task] / rows.total()
            values[f"mixture/token_share/{task}"] = tokens[task] / tokens.total()
        self.metrics.write(phase.last_step, values)

    def _record(self, step: _Pending, progress: PhaseProgress, watch: NegativesWatch) -> None:
        figures = step.sums.read()
        tokens_per_second = step.data.tokens / step.seconds
        values: dict[str, Any] = {
            "phase": step.phase.name,
            "loss": figures.loss,
            "lr": step.lr,
            "grad_norm": figures.grad_norm,
            "tokens": step.data.tokens,
            "tokens_per_second": tokens_per_second,
            "data_wait_seconds": step.waited,
        }
        losses = {
            task: figures.nll[self.data.tasks.index(task)] / count
            for task, count in step.data.answer_tokens.items()
        }
        for task, count in step.data.answer_tokens.items():
            values[f"loss/{task}"] = losses[task]
            values[f"tokens/{task}"] = count
        for task, p, number in zip(
            self.data.tasks, figures.negative_p, figures.negative_tokens, strict=True
        ):
            if number:
                values[f"negative/p/{task}"] = p / number
                values[f"negative/tokens/{task}"] = int(number)
        self.metrics.write(step.global_step, values)
        warning = watch.warning(losses, any(figures.negative_tokens))
        if warning is not None:
            LOGGER.warning("phase '%s': %s", step.phase.name, warning)
        progress.update(
            step.global_step - step.phase.first_step + 1, figures.loss, tokens_per_second, step.lr
        )

    def _finish_phase(self, phase: Phase) -> None:
        if self.config.evaluation.at_phase_end:
            self._evaluate(phase.name, phase, phase.last_step)
        main = self.ranks.is_main
        state = {"phase": phase.name, "last_step": phase.last_step}
        if self.config.checkpoint.sharded:
            checkpoint.save(self.engine, self.run.checkpoint(phase.last_step), state, main)
        if self.config.checkpoint.export:
            done = [one for one in self.phases if one.last_step <= phase.last_step]
            card = model_card(
                self.config, done, self.plan, self.evaluations.get(phase.name), self.start.words
            )
            export(
                self.engine,
                self.data.tokenizer,
                self.config.data.tasks,
                phase_boundary(self.config.boundary, phase.config),
                self.run.export(phase.name),
                card,
                main,
            )
        if main:
            write_json(self.run.phase(phase.name) / "phase.json", state)

    def _evaluate(self, column: str, phase: Phase, global_step: int) -> None:
        """Evaluate under the name of a phase or ``initial``; or, in between, of a step."""
        path = self.run.evaluation(column)
        found = self.evaluator.evaluate(self.engine, phase.name, path.parent)
        if column in (INITIAL, phase.name):
            self.evaluations[column] = found
        if self.ranks.is_main:
            evaluation_results.save(path, found)
            self.metrics.write(global_step, {"phase": column, **figures_of(found)})
