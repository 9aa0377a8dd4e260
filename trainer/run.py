"""One training run: its phases one after another, evaluated and exported, from where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from data_modules.faults import ConfigFault, DataFault, Fault
from data_modules.phase_data_module import PhaseDataModule
from data_modules.wording import phase_boundary
from trainer import distributed, watchdog
from trainer.boundary import Boundary
from trainer.checkpoint.folder import Damaged
from trainer.checkpoint.keeper import Keeper, model_settings, parameter_shapes
from trainer.checkpoint.live_state import frozen_checksum
from trainer.checkpoint.reader import restore
from trainer.closing import close_run
from trainer.config.schema import Config, OptimizerState
from trainer.config.strict_merge import to_plain, to_yaml
from trainer.console import LOGGER, make_console, start_logging
from trainer.course import Course
from trainer.curriculum import Phase
from trainer.distributed import Ranks
from trainer.earlier_starts import (
    builds_on_own,
    clear,
    earlier_evaluations,
    is_finished,
    take_back,
)
from trainer.engine import ZeroEngine
from trainer.evaluation import results as evaluation_results
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.figures import figures_of
from trainer.evaluation.results import Evaluation
from trainer.export import export
from trainer.faults import TrainingFault
from trainer.guard.step_guard import StepGuard
from trainer.interference.watch import InterferenceWatch
from trainer.kernels import chosen
from trainer.meters.peaks import peaks_of
from trainer.meters.profile import StepProfile
from trainer.meters.throughput import Throughput
from trainer.metrics import Metrics, open_metrics
from trainer.model import max_positions
from trainer.model_card import model_card
from trainer.phase_steps import PhaseSteps, RollBack
from trainer.plan_view import plan_json, print_plan
from trainer.plan_warnings import phase_warnings, warnings_of
from trainer.report import chart_files
from trainer.resume import (
    Found,
    frozen_faults,
    model_faults,
    newest_before,
    plan_faults,
    verified_together,
)
from trainer.run_directory import (
    INITIAL,
    RunDirectory,
    environment,
    step_column,
    write_json,
    write_text,
)
from trainer.start import Start
from trainer.stopping import Stops


class Run:
    """One training run over its phases.

    Args:
        attempt: names this start of the run, on all ranks alike.
    """

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
        stops: Stops,
        attempt: str,
    ) -> None:
        self.config, self.ranks, self.run, self.start, self.data = config, ranks, run, start, data
        self.course = course
        self.done = start.steps_done
        self.evaluations = earlier_evaluations(run, start)
        self.phases: list[Phase] = []
        self.plan: Any = {}
        self.fingerprints: dict[str, str] = {}
        self._place()
        self._decide_finished()
        self._check_plan()
        watchdog.at("building the engine")
        self.engine = ZeroEngine(model, len(data.tasks), config, device, ranks.world_size)
        watchdog.set_group_timeouts(config.cluster.process_group_timeout_s)
        self.keeper = Keeper(config, run, ranks, self.engine, attempt)
        resumed = start.resumed
        self.boundary = Boundary(
            stops,
            self.keeper,
            self.fingerprints,
            to_plain(config)["curriculum"]["phases"],
            () if resumed is None else resumed.state.phases[: len(resumed.earlier_phases)],
        )
        self._restore()
        self.console = make_console()
        self.metrics = self._open()
        LOGGER.info("kernels: %s", chosen(config, self.engine.causal_model, device).words)
        self.evaluator = Evaluator(
            data, config.evaluation, config.seed, ranks.rank, self.boundary.pause
        )
        self.interference = InterferenceWatch(
            self.engine, data, config, ranks.rank, run.interference
        )
        self.guard = StepGuard(config, self.engine, data, ranks.rank, run.faults)
        if resumed is not None and "guard" in resumed.state.watches:
            self.guard.restore(resumed.state.watches["guard"])
        self.profile = StepProfile(
            config.profile, run.profile, ranks.rank, self.engine.clock, device.type
        )
        self.steps = PhaseSteps(
            config,
            ranks,
            data,
            self.engine,
            self.metrics,
            self._throughput(),
            self.profile,
            self.interference,
            self.guard,
            self.boundary,
            self._evaluate_between,
        )

    def _throughput(self) -> Throughput:
        """What steps are measured against; the main rank alone writes it down."""
        config, main = self.config, self.ranks.is_main
        measure = main and config.logging.matmul_peak
        peaks = peaks_of(self.engine.device, config.precision, measure)
        found = Throughput.of(self.engine.shape, peaks, self.ranks.world_size)
        if main:
            LOGGER.info("%s", found.words)
        return found

    def _place(self) -> list[Phase]:
        """Number the steps of the phases as far as their tasks are known; those that are new."""
        numbered = len(self.phases)
        steps = {name: plan.steps for name, plan in self.data.plans.items()}
        self.phases = self.course.placed(steps, self.start.steps_before)
        world_size = self.ranks.world_size
        self.plan = plan_json(self.data, self.phases, self.config, world_size, self.course)
        for phase in self.phases[numbered:]:
            fingerprint = self.plan["phases"][phase.name]["fingerprint"]
            self.fingerprints[phase.name] = fingerprint
            distributed.check_equal(f"the plan of phase '{phase.name}'", fingerprint, self.ranks)
        return self.phases[numbered:]

    def _decide_finished(self) -> None:
        """Pick once more the tasks of the phases that a resumed run had already picked them for."""
        resumed = self.start.resumed
        if resumed is None:
            return
        trained = {phase.name for phase in resumed.state.phases}
        for name in [name for name in self.course.waiting if name in trained]:
            self._take_tasks(name)

    def _take_tasks(self, name: str) -> list[Phase]:
        """Pick the tasks of a waiting phase and plan it; the phases that are placed with that."""
        choice = distributed.from_main(
            self.ranks, lambda: self.course.choose(name, self.evaluations)
        )
        self.course.take(name, choice)
        self.data.decide(name, choice.picked)
        with watchdog.paused(f"planning phase '{name}'"):
            distributed.on_first_local_rank(self.ranks, lambda: self.data.prepare_plan(name))
        self.data.load_plan(name)
        return self._place()

    def _pick_tasks(self, name: str) -> None:
        """Pick the tasks of a phase that is about to start, and show its plan."""
        placed = self._take_tasks(name)
        if self.ranks.is_main:
            write_json(self.run.root / "plan.json", self.plan)
            print_plan(self.console, self.plan, placed, self.config, self.course)
        LOGGER.info("phase '%s': tasks %s", name, self.course.choices[name].words)
        for warning in phase_warnings(self.plan, placed, self.config):
            LOGGER.warning(warning)

    def _check_plan(self) -> None:
        """Raise if what a resumed run has trained is not what the plan says."""
        if self.start.resumed is not None:
            faults = plan_faults(self.config, self.start.resumed, self.phases, self.fingerprints)
            if faults:
                raise ConfigFault(faults)

    def _restore(self) -> None:
        """Put the engine where the checkpoint is."""
        resumed = self.start.resumed
        if resumed is None:
            return
        faults = model_faults(resumed, model_settings(self.engine), parameter_shapes(self.engine))
        faults += frozen_faults(resumed, frozen_checksum(self.engine))
        if faults:
            raise ConfigFault(faults)
        self._stand_at(resumed, resumed.state.passed_steps)

    def _stand_at(self, found: Found, passed_steps: Sequence[int]) -> None:
        """Take over weights, moments and watches of a checkpoint; collective."""
        try:
            with watchdog.paused("reading the checkpoint"):
                restore(self.engine, found.folder, found.marker, found.state)
        except Damaged as damage:
            rule = "it holds the whole state of every trained parameter"
            remedy = "Name an older one with resume=CHECKPOINT."
            raise DataFault(Fault(str(found.folder), str(damage), rule, remedy)) from damage
        self.done = found.state.global_step
        self.keeper.passed_steps = list(passed_steps)
        self.boundary.watches = dict(found.state.watches)
        under_way = next((one for one in self.phases if self._is_in(one)), None)
        if under_way is not None:
            here = found.folder.parent == self.run.checkpoints
            self.boundary.stand_at(self.phases, under_way, self.done, saved=here)

    def _roll_back(self, back: RollBack) -> None:
        """Go back to the last checkpoint before a bad step, and leave that step out from here on.

        Raises:
            TrainingFault: there is no such checkpoint.
        """
        with watchdog.paused("rolling back"):
            self.keeper.settle()
            check = verified_together(self.ranks)
            found = newest_before(self.run, back.step, check)
            resumed = self.start.resumed
            if found is None and resumed is not None and not builds_on_own(self.run, self.start):
                # another run's, until there is one of this run's own
                found = newest_before(resumed.source, resumed.global_step + 1, check)
        if found is None:
            raise TrainingFault(
                f"Step {back.step} is to be taken back, but there is no checkpoint before it. Save more "
                "often (checkpoint.every_steps), or choose faults.nonfinite=skip."
            )
        behind = [step for step in back.pass_over if step > found.state.global_step]
        passed = {*self.keeper.passed_steps, *found.state.passed_steps, *behind}
        self._stand_at(found, sorted(passed))
        self.guard.roll_back(found.state.watches.get("guard"))
        if self.ranks.is_main:
            take_back(self.run, found, {self.run.faults.name})
        LOGGER.warning(
            "back at step %d (%s); steps %s are left out", self.done, found.folder, sorted(passed)
        )

    def _is_in(self, phase: Phase) -> bool:
        return phase.first_step <= self.done <= phase.last_step

    def _open(self) -> Metrics:
        """Write the run's own description, print the plan, open logs and metrics."""
        config, run, main = self.config, self.run, self.ranks.is_main
        own = builds_on_own(run, self.start)
        replaces = run.metrics.is_file() and not own
        if main:
            finished = [one.name for one in self.phases if is_finished(run, one, self.done)]
            clear(run, self.start, self.course.phases, finished)
            write_text(run.root / "config.yaml", to_yaml(config))
            write_json(run.root / "plan.json", self.plan)
            write_json(run.root / "environment.json", environment(self.ranks.world_size))
        start_logging(run.log(self.ranks.rank), main, own)
        if main:
            print_plan(self.console, self.plan, self.phases, config, self.course)
        if self.start.resumed is not None:
            for note in self.start.resumed.notes:
                LOGGER.warning("%s", note)
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
        return open_metrics(config.logging, config.run_name, run, to_plain(config), own, main)

    def all_phases(self) -> dict[str, Evaluation]:
        """Train, evaluate and export phase by phase."""
        fresh = not self.evaluations and self.start.resumed is None
        if self.config.evaluation.before_training and fresh:
            self._evaluate(INITIAL, self.phases[0], self.start.steps_before)
        while True:
            try:
                self._train_phases()
                break
            except RollBack as back:
                self._roll_back(back)
            except TrainingFault:
                self.keeper.finish()  # what is on its way is of good steps
                raise
        self.profile.conclude()
        with watchdog.paused("finishing the last checkpoint"):
            self.keeper.settle()
        if self.ranks.is_main:
            watchdog.at("closing the run")
            close_run(self.console, self.run, self.evaluations)
            self.run.stop_file.unlink(missing_ok=True)  # it came too late
            self.metrics.pictures(self.phases[-1].last_step, chart_files(self.run))
        self.metrics.close()
        return self.evaluations

    def _train_phases(self) -> None:
        """Everything that is left, from where the run stands."""
        for number, name in enumerate(self.course.phases):
            if name in self.course.waiting:
                self._pick_tasks(name)
            phase = self.phases[number]
            if is_finished(self.run, phase, self.done):
                continue
            if self.done < phase.last_step:
                if (
                    self.done < phase.first_step
                    and phase.config.optimizer_state is OptimizerState.reset
                ):
                    self.engine.reset_optimizer_state()
                self.steps.train(self.phases, phase, self.done)
                self.done = phase.last_step
            self._finish_phase(phase)

    def _evaluate_between(self, phase: Phase, global_step: int, settle: Callable[[], None]) -> None:
        settings = self.config.evaluation
        every, at_end = settings.every_steps, global_step == phase.last_step
        if every and global_step % every == 0 and not (at_end and settings.at_phase_end):
            settle()
            self._evaluate(step_column(global_step), phase, global_step)

    def _finish_phase(self, phase: Phase) -> None:
        if self.config.evaluation.at_phase_end:
            self._evaluate(phase.name, phase, phase.last_step)
        self._evaluate_between(phase, phase.last_step, lambda: None)
        watchdog.at(f"phase '{phase.name}': export")
        distributed.written(self.ranks, lambda: self._export(phase))

    def _export(self, phase: Phase) -> None:
        """Write the model of a phase, and that the phase is finished; collective."""
        main = self.ranks.is_main
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
            state = {"phase": phase.name, "last_step": phase.last_step}
            cursors = {"cursors": self.run.cursors()}
            write_json(self.run.phase(phase.name) / "phase.json", state | cursors)

    def _evaluate(self, column: str, phase: Phase, global_step: int) -> None:
        """Evaluate under the name of a phase or ``initial``; or, in between, of a step."""
        path = self.run.evaluation(column)
        watchdog.at(f"evaluation '{column}'")
        found = self.evaluator.evaluate(self.engine, phase.name, path.parent)
        if column in (INITIAL, phase.name):
            self.evaluations[column] = found

        def write() -> None:
            if self.ranks.is_main:
                evaluation_results.save(path, found)
                self.metrics.write(global_step, {"phase": column, **figures_of(found)})

        distributed.written(self.ranks, write)
