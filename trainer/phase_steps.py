"""The training loop: a phase's steps, what is recorded of each, and what happens between two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from data_modules.phase_data_module import PhaseDataModule
from data_modules.prefetch import prefetched
from trainer import watchdog
from trainer.boundary import Boundary
from trainer.config.schema import Config
from trainer.console import LOGGER, PhaseProgress
from trainer.curriculum import Phase, lr_at
from trainer.distributed import Ranks, seed_generators
from trainer.engine import StepFigures, StepSums, ZeroEngine
from trainer.garbage import collected_at_set_steps
from trainer.guard.guard import Action
from trainer.guard.limit import Limit
from trainer.guard.step_guard import StepGuard
from trainer.interference.watch import InterferenceWatch
from trainer.meters.clock import Part, Turn
from trainer.meters.memory import peak_memory
from trainer.meters.profile import StepProfile
from trainer.meters.throughput import Throughput
from trainer.metrics import Metrics
from trainer.negatives_watch import NegativesWatch
from trainer.step_data import StepData, pinned, step_data, trained_counts


@dataclass
class _Pending:
    """A step whose sums are still on their way from the device.

    Attributes:
        turn: the clock's marks of it.
        memory: peaks of this rank, see ``trainer.meters.memory``.
        waited: seconds that the host waited for its data.
    """

    global_step: int
    lr: float
    data: StepData
    limit: Limit
    sums: StepSums
    turn: Turn
    memory: dict[str, int]
    waited: float


class RollBack(Exception):
    """A step is taken back, with all behind the last checkpoint; raised on every rank.

    Attributes:
        pass_over: global steps that are left out for good.
    """

    def __init__(self, step: int, pass_over: Sequence[int]) -> None:
        super().__init__(f"step {step}")
        self.step, self.pass_over = step, tuple(pass_over)


class PhaseSteps:
    """Trains phases of one run step by step.

    Args:
        evaluate_between: evaluates behind a step if it is time to, once what is still on its way of the
            step is recorded (its third argument does so): an evaluation is a place to stop at.
    """

    def __init__(
        self,
        config: Config,
        ranks: Ranks,
        data: PhaseDataModule,
        engine: ZeroEngine,
        metrics: Metrics,
        throughput: Throughput,
        profile: StepProfile,
        interference: InterferenceWatch,
        guard: StepGuard,
        boundary: Boundary,
        evaluate_between: Callable[[Phase, int, Callable[[], None]], None],
    ) -> None:
        self.config, self.ranks, self.data, self.engine = config, ranks, data, engine
        self.metrics, self.throughput, self.profile = metrics, throughput, profile
        self.interference = interference
        self.guard, self.boundary = guard, boundary
        self._evaluate_between = evaluate_between
        self._task_ids = {task: number for number, task in enumerate(data.tasks)}

    def train(self, phases: list[Phase], phase: Phase, steps_done: int) -> None:
        """Train what is left of a phase, and leave a checkpoint at its end.

        Args:
            phases: those that are placed.
            steps_done: steps that the run has behind it.

        Raises:
            RollBack: a step was so bad that the run goes back to its last checkpoint.
            Stopped: the ranks were asked to leave.
            TrainingFault: training cannot go on.
        """
        every = self.config.gc_every_steps
        try:
            with collected_at_set_steps(every) as collect:
                self._train(phases, phase, steps_done, collect)
        finally:
            self.profile.close()  # what follows is no step
        self._record_mixture(phase)
        self.boundary.after_phase(phases, phase)

    def _train(
        self,
        phases: list[Phase],
        phase: Phase,
        steps_done: int,
        collect: Callable[[int], None],
    ) -> None:
        first = max(0, steps_done - phase.first_step + 1)
        passed = {step - phase.first_step for step in self.boundary.passed_steps}
        todo: Sequence[int] = range(
            first, phase.steps
        )  # a list of millions takes tens of megabytes
        if any(index in todo for index in passed):
            todo = [index for index in todo if index not in passed]
        progress = PhaseProgress(
            phase.name, phase.steps, self.config.logging.console_seconds, self.ranks.is_main, first
        )
        tasks = list(self.data.plans[phase.name].use())
        watch = NegativesWatch()
        if first and "negatives" in self.boundary.watches:
            watch.restore(self.boundary.watches["negatives"])
        pending: _Pending | None = None

        def settle() -> None:
            """Record the step that is still on its way."""
            nonlocal pending
            if pending is not None:
                self._record(phase, pending, progress, watch)
                pending = None
            self.boundary.watches["negatives"] = watch.state()
            self.boundary.watches["guard"] = self.guard.state()

        if first:
            # Whatever came behind the checkpoint in its own step was taken back with the rest.
            self._evaluate_between(phase, steps_done, settle)
        watchdog.at(f"step {phase.first_step + first}: data")
        micro_batch_size, parts = self.config.micro_batch_size, self.config.sequence_parallel_size
        on_gpu = self.engine.device.type == "cuda"

        def made(number: int) -> StepData:
            data = step_data(
                self.data, phase, tasks, todo[number], self.ranks, micro_batch_size, parts
            )
            return pinned(data) if on_gpu else data

        steps = prefetched(made, len(todo))
        clock = self.engine.clock
        for index in todo:
            global_step = phase.first_step + index
            with self.profile.step(global_step):
                clock.begin()
                with clock.inside(Part.data):
                    step, waited = next(steps)
                watchdog.at(f"step {global_step}: forward and backward")
                seed_generators(self.config.seed, global_step, self.ranks.rank)
                limit = self.guard.limit_for(step.answer_tokens)
                sums = self.engine.train_step(step.batches, lr_at(phases, global_step), limit)
                memory = peak_memory(self.engine.device)
                # Beside the device, which has the whole step to do.
                collect(global_step)
                # Figures are read one step late, so that the host never waits for the device.
                if pending is not None:
                    self._record(phase, pending, progress, watch)
                self.interference.after_step(phase.name, global_step)
                lr = self.engine.lr
                pending = _Pending(global_step, lr, step, limit, sums, clock.end(), memory, waited)
            if global_step < phase.last_step:
                self.boundary.after_step(phases, phase, global_step, settle)
                self._evaluate_between(phase, global_step, settle)
            watchdog.at(f"step {global_step + 1}: data")
        settle()
        progress.close()

    def _record_mixture(self, phase: Phase) -> None:
        """What the phase was trained on beside what its mixture asked for, as shares."""
        if not self.ranks.is_main:
            return
        left_out = sorted({*self.boundary.passed_steps, *self.guard.skipped_steps})
        rows, tokens = trained_counts(self.data, phase, left_out)
        values: dict[str, Any] = {"phase": phase.name}
        for task, asked in self.data.plans[phase.name].asked.items():
            number = self._task_ids[task]
            values[f"mixture/asked_row_share/{task}"] = asked
            values[f"mixture/row_share/{task}"] = rows[number] / max(rows.sum(), 1)
            values[f"mixture/token_share/{task}"] = tokens[number] / max(tokens.sum(), 1)
        self._write(phase.last_step, values)

    def _record(
        self, phase: Phase, step: _Pending, progress: PhaseProgress, watch: NegativesWatch
    ) -> None:
        """Write a step's figures down, and judge it.

        Raises:
            RollBack, TrainingFault: as :meth:`train`.
        """
        watchdog.at(f"step {step.global_step}: waiting for its sums", waits=True)
        figures = step.sums.read()
        parts = step.turn.read()
        rates = self.throughput.rates(step.data, sum(parts.values()))
        values: dict[str, Any] = {
            "phase": phase.name,
            "lr": step.lr,
            "tokens": step.data.tokens,
            **rates,
            "data_wait_seconds": step.waited,
            **{f"time/{part}": seconds for part, seconds in parts.items()},
            **{f"memory/{kind}": peak for kind, peak in step.memory.items()},
        }
        if figures.skipped:
            values["skipped"] = True  # its figures, which may be no numbers, are in faults.jsonl
        else:
            values |= self._losses(figures, step.data)
        self._write(step.global_step, values)
        verdict = self.guard.after_step(
            phase, step.global_step, figures, step.data.answer_tokens, step.limit
        )
        if verdict is not None and verdict.action is Action.rollback:
            raise RollBack(step.global_step, verdict.pass_over)
        if not figures.skipped:
            losses = {task: values[f"loss/{task}"] for task in step.data.answer_tokens}
            warning = watch.warning(losses, any(figures.negative_tokens))
            if warning is not None:
                LOGGER.warning("phase '%s': %s", phase.name, warning)
        progress.update(
            step.global_step - phase.first_step + 1,
            figures.loss,
            rates["tokens_per_second"],
            step.lr,
        )

    def _write(self, global_step: int, values: dict[str, Any]) -> None:
        """Write metrics; where the disk refuses, all ranks leave at the next boundary."""
        try:
            self.metrics.write(global_step, values)
        except OSError as error:
            self.boundary.cannot_write(f"{error.strerror} (metrics)")

    def _losses(self, figures: StepFigures, data: StepData) -> dict[str, Any]:
        """The figures of a step that was taken in."""
        values: dict[str, Any] = {"loss": figures.loss, "grad_norm": figures.grad_norm}
        for task, count in data.answer_tokens.items():
            values[f"loss/{task}"] = figures.nll[self._task_ids[task]] / count
            values[f"tokens/{task}"] = count
        for task, p, number in zip(
            self.data.tasks, figures.negative_p, figures.negative_tokens, strict=True
        ):
            if number:
                values[f"negative/p/{task}"] = p / number
                values[f"negative/tokens/{task}"] = int(number)
        return values
