"""Run the log's five versions, and the control of v1.0, on the built-in benchmark; draw their table.

python launch/versions.py                          # one seed
python launch/versions.py --seeds 0 1 2            # mean of three seeds with intervals
python launch/versions.py --only v0_2 v0_3 evaluation.rows_per_task=50
All share the shipped base model. Runs that are finished are kept (--again makes them anew), so an
interrupted call goes on where it was; kept runs must have the same overrides. Several runs at once share
the cores, one process each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from data_modules.masking import masked_arguments
from launch.submission.job import own_environment

REPOSITORY = Path(__file__).resolve().parents[1]
VERSIONS = ("v0_1", "v0_2", "v0_3", "v1_0", "v1_0_control", "v1_1")


@dataclass(frozen=True)
class VersionRun:
    """One version with one seed."""

    version: str
    seed: int
    folder: Path

    @property
    def is_finished(self) -> bool:
        """The page is the last thing that a run writes."""
        return self._page.is_file()

    @property
    def _page(self) -> Path:
        return self.folder / "report.html"

    def begin(self) -> None:
        """Make the folder one of a run that is not finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._page.unlink(missing_ok=True)

    def command(self, overrides: list[str]) -> list[str]:
        """The arguments of ``launch/train.py``."""
        return [
            *(f"experiment=bench/{self.version}", f"seed={self.seed}"),
            *(f"run_name={self.folder.name}", f"output_dir={self.folder}"),
            # more threads than cores slow each other down manifold
            "cluster.threads_per_rank=1",
            # one process has all rows of a step: one micro-step is enough
            "micro_batch_size=32",
            *overrides,
        ]

    def differs(self, overrides: list[str]) -> str:
        """What a finished run was made with, if not with these overrides; else empty."""
        made = json.loads((self.folder / "environment.json").read_text(encoding="utf-8"))
        seen = [one.lstrip("+") for one in made["command"][1:]]
        place = f"output_dir={self.folder}"
        command = masked_arguments(self.command(overrides))
        wanted = [one.lstrip("+") for one in command if one != place]
        seen = [one for one in seen if not one.startswith(("output_dir=", "resume="))]
        return "" if seen == wanted else " ".join(seen)


def arguments(given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line: own options, and overrides for every run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=VERSIONS, default=list(VERSIONS))
    parser.add_argument("--output", type=Path, default=Path("outputs/versions"))
    parser.add_argument("--at-once", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--again", action="store_true", help="run finished ones anew")
    # taken out first: an option with several values would take them for its own
    overrides = [one for one in given if "=" in one and not one.startswith("-")]
    return parser.parse_args([one for one in given if one not in overrides]), overrides


def run(one: VersionRun, overrides: list[str], again: bool) -> int:
    """Train and evaluate one version; what it prints goes to a file beside its directory.

    Args:
        again: from its start; else an interrupted one goes on where its last checkpoint is.
    """
    one.begin()
    script = str(REPOSITORY / "launch/train.py")
    command = [sys.executable, script, *one.command(overrides)]
    command += ["resume=never"] if again else []
    start = time.perf_counter()
    with one.folder.with_suffix(".log").open("w", encoding="utf-8") as log:
        code = subprocess.run(
            command, stdout=log, stderr=log, env=own_environment(), check=False
        ).returncode
    words = "done" if code == 0 else f"FAILED with exit code {code}, see {log.name}"
    print(f"{one.folder.name}: {words}, {time.perf_counter() - start:.0f} s", flush=True)
    return code


def main(given: list[str]) -> int:
    """Run what is missing, then compare; 1 if a run failed, 2 if kept runs are not those asked for."""
    options, overrides = arguments(given)
    runs = [
        VersionRun(version, seed, options.output / f"{version}-seed{seed}")
        for seed in options.seeds
        for version in options.only
    ]
    todo = [one for one in runs if options.again or not one.is_finished]
    kept = [one for one in runs if one not in todo]
    others = {one.folder: made for one in kept if (made := one.differs(overrides))}
    for folder, made in others.items():
        print(f"{folder} was made with other overrides: {made}", file=sys.stderr)
    if others:
        print("Choose another --output, or --again to replace them.", file=sys.stderr)
        return 2
    for one in kept:
        print(f"{one.folder.name}: finished before, kept", flush=True)
    with ThreadPoolExecutor(max(1, options.at_once)) as pool:
        codes = list(pool.map(lambda one: run(one, overrides, options.again), todo))
    from trainer.report.versions import compare_versions

    compare_versions([one.folder for one in runs if one.is_finished], options.output)
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
