"""How long it takes to go on from step 10, and from step one million, of a plan of ten million rows.

python benchmarks/resume_scale.py --folder /tmp/resume

Trains a few steps, then says in copies of the checkpoint's state that it is of another step: what is
restored is as large either way, and the plan is the same. Prints one JSON object: seconds from the start
of a fresh process's ``train`` to its first step, in turns, and their ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
ROWS_A_STEP = 8
STEPS = 1_250_000
EARLY, LATE = 10, 1_000_000


def overrides(folder: Path, run: str) -> list[str]:
    """One long phase of a small model: ten million rows, drawn again and again."""
    return [
        "model=bench_scratch",
        "precision=fp32",
        "+phase=mix",
        "curriculum.phases.mix.epochs=null",
        f"curriculum.phases.mix.steps={STEPS}",
        f"global_batch_size={ROWS_A_STEP}",
        f"data.root={folder}/data",
        f"data.cache_dir={folder}/cache",
        "data.max_seq_len=96",
        "evaluation=none",
        "interference=none",
        "cluster.threads_per_rank=1",
        f"checkpoint.every_steps={EARLY}",
        "checkpoint.keep_last=1000000",
        f"output_dir={folder}/{run}",
    ]


class FirstStep(Exception):
    """The first step is about to be trained."""


def start(given: list[str], steps: int) -> float:
    """Train so many steps in this process; seconds until the first of them began."""
    from launch.composing import addable, prepare_root

    sys.path.insert(0, str(REPOSITORY))
    from hydra import compose, initialize_config_dir

    from trainer.config.strict_merge import to_config
    from trainer.engine import ZeroEngine
    from trainer.train import train

    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = to_config(compose("train", addable(given)))
    prepare_root(config)
    began, first, done = time.perf_counter(), 0.0, 0
    original = ZeroEngine.train_step

    def counted(self: ZeroEngine, *args: Any, **kwargs: Any) -> Any:
        nonlocal first, done
        first = first or time.perf_counter() - began
        if done == steps:
            raise FirstStep
        done += 1
        return original(self, *args, **kwargs)

    ZeroEngine.train_step = counted  # type: ignore[method-assign]
    with contextlib.suppress(FirstStep):
        train(config)
    return first


def move(folder: Path, step: int) -> None:
    """Say that the only checkpoint of a run is of another step."""
    from trainer.checkpoint import folder as folders
    from trainer.checkpoint.trainer_state import read_state

    (found,) = folders.checkpoints(folder)
    marker, state = folders.read_marker(found), read_state(found)
    written = folders.write_synced(found / folders.STATE, replace(state, global_step=step).text())
    files = {**marker.files, folders.STATE: written}
    folders.complete(
        found, folder / folders.step_name(step), replace(marker, global_step=step, files=files)
    )


def in_a_process(folder: Path, run: str, steps: int) -> float:
    """:func:`start` in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--folder",
        str(folder),
        "--run",
        run,
        "--steps",
        str(steps),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run")
    parser.add_argument("--steps", type=int, default=0)
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    if options.run:
        print(start(overrides(options.folder, options.run), options.steps))
        return
    in_a_process(options.folder, "early", EARLY + 1)
    late = options.folder / "late"
    shutil.rmtree(late, ignore_errors=True)
    shutil.copytree(options.folder / "early", late)
    move(late / "checkpoints", LATE)
    seconds: dict[str, list[float]] = {"early": [], "late": []}
    for _ in range(options.repeats):
        for run, taken in seconds.items():
            taken.append(round(in_a_process(options.folder, run, 0), 3))
    medians = {run: statistics.median(taken) for run, taken in seconds.items()}
    found = {"steps": {"early": EARLY, "late": LATE}, "plan_rows": STEPS * ROWS_A_STEP}
    print(json.dumps({**found, "seconds": seconds, "ratio": medians["late"] / medians["early"]}))


if __name__ == "__main__":
    main()
