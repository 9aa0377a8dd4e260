"""Training, from a configuration to a finished run directory."""

from __future__ import annotations

import secrets
from pathlib import Path

import torch

from data_modules.faults import UserFault
from data_modules.phase_data_module import PhaseDataModule
from trainer import distributed, watchdog
from trainer.checkpoint.folder import clear_scratch
from trainer.config.schema import Config
from trainer.config.validate import validate, validate_device
from trainer.console import make_console, quieten_libraries
from trainer.course import Course, course_of, listed_course
from trainer.distributed import Ranks
from trainer.evaluation import results as evaluation_results
from trainer.evaluation.results import Evaluation
from trainer.faults import TrainingFault
from trainer.kernels import apply_kernels
from trainer.model import adapt, check_attention, checked_tokenizer, load_model
from trainer.resume import NEVER, made_by, verified_together
from trainer.run import Run
from trainer.run_directory import INITIAL, RunDirectory, write_json
from trainer.run_lock import RunLock, patience
from trainer.shared_directory import check_shared
from trainer.start import Start, find_start
from trainer.stopping import Stopped, Stops
from trainer.summary import print_summary


def make_data(
    config: Config, init_from: str | None, course: Course | None = None
) -> PhaseDataModule:
    """The data module of the selected phases; no data is read yet.

    Args:
        course: None leaves every phase that picks its tasks with all that it may pick.

    Raises:
        ConfigFault: the tokenizer cannot be loaded or does not fit the model, or the model's attention
            cannot be shared as asked.
    """
    tokenizer = checked_tokenizer(config.model, init_from)
    check_attention(
        config.model, tokenizer, init_from, config.data.max_seq_len, config.sequence_parallel_size
    )
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
        Stopped: on every rank, when it was asked to leave early.
        TrainingFault: on every rank, when training cannot go on.
    """
    ranks = distributed.ranks_from_environment()
    validate(config, ranks.world_size)
    validate_device(config, torch.cuda.is_available())
    quieten_libraries()
    distributed.set_threads(config.cluster, ranks)
    torch.use_deterministic_algorithms(config.deterministic)
    run = RunDirectory(Path(config.output_dir))
    device = distributed.init(config.cluster, ranks)
    stops = Stops(run, ranks, distributed.control_group(ranks), config.limits.wall_time)
    lock = RunLock(run)
    stops.listen()
    try:

        def take() -> None:
            lock.take(patience(config.cluster))
            stops.forget()

        distributed.from_main(ranks, take)
        check_shared(run.root, ranks)
        agreed = (UserFault, Stopped, TrainingFault)
        with watchdog.watching(run, ranks, config.cluster, agreed), stops.together():
            return _train(config, ranks, run, device, stops)
    except Stopped as stopped:
        if ranks.is_main:
            run.stop_file.unlink(missing_ok=True)
            words = {"why": str(stopped), "reason": stopped.reason.name}
            write_json(run.stopped, words | {"exit_code": stopped.exit_code})
        raise
    finally:
        stops.close()
        if ranks.is_main:
            lock.release()


def _train(
    config: Config, ranks: Ranks, run: RunDirectory, device: torch.device, stops: Stops
) -> dict[str, Evaluation]:
    with watchdog.paused("verifying checkpoints"):
        start = find_start(config, run, verified_together(ranks))
    finished = _finished(config, run, start)
    if finished is not None:
        if ranks.is_main:
            console = make_console()
            print_summary(console, finished)
            console.print(
                f"{run.root} is finished: nothing is left to train. resume=never trains it anew, "
                "another run_name beside it."
            )
        return finished
    if ranks.is_main:
        clear_scratch(run.checkpoints)
    attempt = distributed.from_main(ranks, lambda: secrets.token_hex(4))
    course = course_of(config, start, run)
    data = make_data(config, start.init_from, course)
    with watchdog.paused("preparing data"):
        distributed.on_first_local_rank(ranks, data.prepare)
    data.load()
    torch.manual_seed(config.seed)
    with watchdog.paused("loading the model"):
        model = distributed.on_every_rank(
            ranks, lambda: load_model(config.model, data.tokenizer, start.init_from, config.seed)
        )
        distributed.on_every_rank(ranks, lambda: apply_kernels(config, model, device))
        model = adapt(model, config.adaptation)
    made = Run(config, ranks, run, start, course, data, model, device, stops, attempt)
    stops.begin_training()
    return made.all_phases()


def _finished(config: Config, run: RunDirectory, start: Start) -> dict[str, Evaluation] | None:
    """The results of a run that has nothing left to do; None if it has."""
    resumed, course = start.resumed, listed_course(config)
    if not run.report.is_file():
        return None
    if resumed is None:
        if config.resume == NEVER or config.checkpoint.sharded or not made_by(config, run):
            return None
        done = [name for name in course.phases if run.finished(name) is not None]
    else:
        if resumed.folder.parent != run.checkpoints:
            return None
        done = resumed.finished
    if not set(course.phases) <= set(done):
        return None
    columns = (INITIAL, *start.earlier_phases, *course.phases)
    return {
        column: evaluation_results.load(run.evaluation(column))
        for column in columns
        if run.evaluation(column).is_file()
    }
