"""What ``launch/prepare.py`` does: prepare all rows, report on them, show some as the model sees them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data_modules.disk import written_below
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.pool import Progress as Report
from data_modules.report import print_preview, print_report, render_page
from data_modules.report.collect import prepare_report
from data_modules.report.preview import pieces_of
from data_modules.seeding import generator
from trainer.config.schema import Config
from trainer.config.validate import validate
from trainer.console import make_console, quieten_libraries, safe_text
from trainer.course import Course, course_of
from trainer.run_directory import RunDirectory, write_json, write_text
from trainer.start import find_start
from trainer.train import make_data


def prepare(config: Config) -> None:
    """Read, clean, tokenise; print the report and leave it in ``<output_dir>/data``.

    Raises:
        UserFault: whatever would stop a run before training.
    """
    started = time.monotonic()
    console = make_console()
    data, course = _prepared(config, console)
    report = prepare_report(data, time.monotonic() - started)
    folder = Path(config.output_dir) / "data"
    with written_below("output_dir", Path(config.output_dir)):
        write_json(folder / "report.json", report)
        write_text(folder / "report.html", render_page(report))
        shutil.copyfile(data.rejects_file(next(iter(data.mixtures))), folder / "rejects.jsonl")
    print_report(console, report)
    _print_picked(console, course, data)
    for name in ("report.html", "report.json", "rejects.jsonl"):
        console.print(f"{name + ':':<16}{folder / name}", soft_wrap=True)


def preview(config: Config) -> None:
    """Print samples of every task and phase as the model will see them."""
    console = make_console()
    data, course = _prepared(config, console)
    data.load()
    print_preview(console, _samples(config, data))
    _print_picked(console, course, data)


def _print_picked(console: Console, course: Course, data: PhaseDataModule) -> None:
    """Which tasks were picked, and which phases pick theirs later."""
    for name, choice in course.choices.items():
        console.print(f"{name}: tasks {choice.words}", soft_wrap=True)
    for name in course.waiting:
        words = course.waiting_words(name, data.step_bounds(name))
        console.print(f"{name}: {words}", soft_wrap=True)


def _samples(config: Config, data: PhaseDataModule) -> Iterator[dict[str, Any]]:
    """One sample, drawn by seed, of every phase and task; and a negative where there is one."""
    for phase, plan in data.plans.items():
        store = plan.store
        drawn = np.unique(plan.rows)
        for task in plan.use():
            of_task = drawn[store.task_ids[drawn] == data.tasks.index(task)]
            rng = generator(config.seed, "preview", phase, task)
            for sign in (1, -1):
                rows = of_task[store.signs[of_task] == sign]
                for row in rng.permutation(rows)[:1]:
                    ids, supervised = store.tokens(int(row))
                    yield {
                        "task": task,
                        "phase": phase,
                        "row_id": f"sample {row}",
                        "sign": sign,
                        "pieces": pieces_of(data.tokenizer, ids.tolist(), supervised.tolist()),
                    }


def _prepared(config: Config, console: Console) -> tuple[PhaseDataModule, Course]:
    validate(config, dp_world_size=None)
    quieten_libraries()
    run = RunDirectory(Path(config.output_dir))
    course = course_of(config, find_start(config, run), run)
    data = make_data(config, config.init_from, course)
    with _progress_bars(console) as progress:
        data.prepare(progress)
    return data, course


@contextmanager
def _progress_bars(console: Console) -> Iterator[Report]:
    """One bar a stage on a terminal; a line at the end of each elsewhere."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bars:
        tasks: dict[str, object] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(safe_text(stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]
            if not console.is_terminal and done == total:
                console.print(f"{stage}: {total} done")

        yield progress
