"""Ten short runs made ill on purpose, and a healthy one: does the diagnosis name the right illness first?

python benchmarks/illnesses.py --folder /tmp/illnesses    # train, diagnose, print the table
python benchmarks/illnesses.py --folder /tmp/illnesses --only healthy chatter
python benchmarks/illnesses.py --folder /tmp/illnesses --diagnose-only    # the runs that are there

Every run is the built-in benchmark's two-phase curriculum with the overrides below. Exit code 1 where fewer
than nine in ten of the illnesses were named first, or the healthy run has a finding of severity high.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_modules.benchmark import TASKS, BenchmarkSpec, generate
from trainer.diagnosis import Finding, Severity, diagnose
from trainer.run_facts import read_run

REPOSITORY = Path(__file__).resolve().parents[1]
PHASES = ("mix", "specialize")
ROWS = 4.0  # multiplier of the benchmark: 4,800 rows
EVAL_ROWS = 40
#: What a run that is to be healthy needs: level tasks, few repeats, replay, tags, cue decorrelation.
HEALTHY = (
    *("experiment=bench/demo", "+phase=[mix,specialize]"),
    *(f"data.benchmark.multiplier={ROWS:g}", f"data.benchmark.eval_rows={EVAL_ROWS}"),
    *("global_batch_size=16", "curriculum.phases.specialize.block_rows=16"),
    *("curriculum.phases.mix.epochs=null", "curriculum.phases.mix.steps=280"),
    *("curriculum.phases.specialize.epochs=null", "curriculum.phases.specialize.steps=160"),
    *("curriculum.phases.mix.lr=2e-3", "curriculum.phases.specialize.lr=1e-3"),
    *(f"curriculum.phases.{phase}.prompts.cue_share=0.3" for phase in PHASES),
    *(f"curriculum.phases.{phase}.prompts.tag_dropout=0.1" for phase in PHASES),
    *("evaluation.prompt_sets=[ordinary,conflict]", "evaluation.bootstrap_samples=200"),
    *("checkpoint=none", "zero.stage=0", "cluster.threads_per_rank=1"),
)
Plant = Callable[[Path], None]


@dataclass(frozen=True)
class Illness:
    """A way to make the run ill.

    Attributes:
        rules: rules of which one has to come first; empty for the healthy run.
        overrides: added to those of the healthy run.
        plant: changes the training files.
    """

    rules: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    plant: Plant | None = None


def changed(task: str, share: float, change: Callable[[str, random.Random], str]) -> Plant:
    """Change the answers of a share of a task's training rows."""

    def plant(root: Path) -> None:
        path = root / "train" / f"{task}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        draw = random.Random(0)
        for row in draw.sample(rows, round(share * len(rows))):
            row["output"] = change(row["output"], draw)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    return plant


def foreign(_: str, draw: random.Random) -> str:
    """An answer that has nothing to do with the request, in the manner of another task."""
    letters = draw.sample("abcdefghijklmnop", 3)
    return draw.choice([f"{letters[0]} , {letters[1]} .", " ".join(letters), "UP", "ans 7 ."])


def _in_both(setting: str) -> tuple[str, ...]:
    return tuple(f"curriculum.phases.{phase}.{setting}" for phase in PHASES)


_FEW = ("translation", "sorting", "code", "json", "style")
_STARVED = ",".join(f"{task}:{3 if task in _FEW else 200}" for task in TASKS)
_TWENTY = ",".join(f"{task}:{4 if task == 'translation' else 1}" for task in TASKS)
ILLNESSES: dict[str, Illness] = {
    "healthy": Illness(()),
    # five tasks of ten have 12 rows, the others 800
    "starved": Illness(
        ("imbalance",),
        (
            *(f"balance@curriculum.phases.{phase}.balance=natural" for phase in PHASES),
            f"data.benchmark.task_rows={{{_STARVED}}}",
        ),
    ),
    "rate_x50": Illness(("rate_at_switch",), ("curriculum.phases.specialize.lr=0.1",)),
    # general rows stay: they do not protect the other tasks
    "sequential": Illness(("task_order",), _in_both("order=sequential")),
    "no_replay": Illness(("general_forgetting",), _in_both("replay=0")),
    "leaky": Illness(
        ("crosstalk",),
        ("boundary=none", *_in_both("prompts.cue_share=0"), *_in_both("prompts.tag_dropout=0")),
    ),
    "three_steps": Illness(("small_phase",), ("curriculum.phases.specialize.steps=3",)),
    # translation has 20 rows, each drawn about sixty times
    "twenty_rows": Illness(
        ("overfitting",),
        (
            "data.benchmark.task_rows={translation:5}",
            *(f"balance@curriculum.phases.{phase}.balance=weights" for phase in PHASES),
            *_in_both(f"balance.weights={{{_TWENTY}}}"),
        ),
    ),
    "poor_rows": Illness(("poor_data",), plant=changed("extraction", 0.3, foreign)),
    "chatter": Illness(
        ("over_explaining",), plant=changed("code", 0.9, lambda answer, _: f"sure ! {answer}")
    ),
    "asks_back": Illness(
        ("asking_back",), plant=changed("summarization", 0.6, lambda _, draw: "ans ?")
    ),
}


def train(name: str, folder: Path) -> float:
    """Train one run into ``folder/name``; seconds."""
    illness = ILLNESSES[name]
    root = folder / "data" / (name if illness.overrides or illness.plant else "healthy")
    # The training process generates the benchmark of its own settings, unless rows were planted.
    data = [f"data.root={root}"]
    if illness.plant is not None:
        shutil.rmtree(root, ignore_errors=True)
        generate(BenchmarkSpec(multiplier=ROWS, eval_rows=EVAL_ROWS), root)
        illness.plant(root)
        data += ["~data.benchmark"]
    overrides = [one for one in HEALTHY if illness.plant is None or "benchmark." not in one]
    command = [sys.executable, "launch/train.py", *overrides, *illness.overrides, *data]
    began = time.perf_counter()
    log = folder / f"{name}.log"
    with log.open("w", encoding="utf-8") as file:
        subprocess.run(
            [*command, f"output_dir={folder / name}", f"data.cache_dir={folder / 'cache'}"],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=True,
        )
    return time.perf_counter() - began


def named_first(findings: list[Finding]) -> str:
    """The rule of the first finding; "" without any."""
    return findings[0].rule if findings else ""


def is_right(name: str, findings: list[Finding]) -> bool:
    """Whether the first finding is the illness; of the healthy run, whether nothing is severe."""
    if not ILLNESSES[name].rules:
        return not any(one.severity is Severity.high for one in findings)
    return named_first(findings) in ILLNESSES[name].rules


def main() -> int:
    """Train and diagnose; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="data, logs and runs")
    parser.add_argument("--only", nargs="+", choices=ILLNESSES, default=list(ILLNESSES))
    parser.add_argument("--diagnose-only", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    right: dict[str, bool] = {}
    print("| run | planted | named first | severity | further findings | seconds |")
    print("|---|---|---|---|---|---:|")
    for name in arguments.only:
        seconds = "" if arguments.diagnose_only else f"{train(name, folder):.0f}"
        findings = diagnose(read_run(folder / name))
        right[name] = is_right(name, findings)
        others = ", ".join(f"{one.rule} ({one.severity})" for one in findings[1:])
        print(
            f"| {name} | {' or '.join(ILLNESSES[name].rules) or 'nothing'} | "
            f"{named_first(findings) or 'nothing'}{'' if right[name] else ' **wrong**'} | "
            f"{findings[0].severity if findings else ''} | {others} | {seconds} |",
            flush=True,
        )
    ill = [name for name in right if ILLNESSES[name].rules]
    good = sum(right[name] for name in ill)
    print(f"{good} of {len(ill)} illnesses named first")
    return int(good < 0.9 * len(ill) or not right.get("healthy", True))


if __name__ == "__main__":
    sys.exit(main())
