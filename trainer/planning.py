"""The plan without training: what ``launch/plan.py`` prints."""

from __future__ import annotations

from pathlib import Path

from trainer.config.schema import Config
from trainer.config.validate import validate
from trainer.console import make_console, quieten_libraries
from trainer.course import course_of
from trainer.distributed import Ranks, ranks_from_environment
from trainer.estimate.command import print_estimates
from trainer.model import max_positions
from trainer.plan_view import plan_json, print_plan
from trainer.plan_warnings import warnings_of
from trainer.run_directory import RunDirectory
from trainer.start import find_start
from trainer.train import make_data


def show_plan(config: Config, world_size: int | None = None) -> None:
    """Validate, tokenise and plan as a run would, and print it; with what the run will need.

    With ``estimate.only`` no data is read.

    Args:
        world_size: ranks of the run; None takes those that a launcher started.

    Raises:
        UserFault: whatever would stop the run before training.
    """
    launched = ranks_from_environment()
    if world_size is not None:
        launched = Ranks(0, world_size, 0, max(1, world_size // config.cluster.nodes))
    if config.estimate.only:
        quieten_libraries()
        print_estimates(make_console(), config, config.init_from, launched)
        return
    world_size = launched.world_size
    validate(config, world_size)
    quieten_libraries()
    run = RunDirectory(Path(config.output_dir))
    start = find_start(config, run)
    course = course_of(config, start, run)
    data = make_data(config, start.init_from, course)
    data.prepare()
    data.load()
    steps = {name: plan.steps for name, plan in data.plans.items()}
    phases = course.placed(steps, start.steps_before)
    plan = plan_json(data, phases, config, world_size, course)
    console = make_console()
    print_plan(console, plan, phases, config, course)
    console.print(start.words, soft_wrap=True)
    positions = max_positions(config.model, data.tokenizer, start.init_from)
    for warning in warnings_of(plan, phases, config, positions):
        console.print(f"warning: {warning}", soft_wrap=True)
    print_estimates(console, config, start.init_from, launched, plan)
