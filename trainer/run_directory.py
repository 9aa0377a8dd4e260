"""The run directory: where everything a run makes lies, and what an earlier run left there."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_modules.masking import masked_arguments

#: Column name of the weights a run started from.
INITIAL = "initial"
_EVALUATIONS = "evaluations"
_STEP_COLUMN = re.compile(r"step_\d{6,}")

_PACKAGES = ("torch", "deepspeed", "transformers", "peft", "hydra-core", "numpy", "tokenizers")


@dataclass(frozen=True)
class RunDirectory:
    """Paths inside ``outputs/<run_name>``."""

    root: Path

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def picture(self) -> Path:
        """Tasks through the phases, and the training curve."""
        return self.root / "run.png"

    @property
    def findings(self) -> Path:
        """What the diagnosis found."""
        return self.root / "findings.json"

    @property
    def interference(self) -> Path:
        """One line for every measurement of gradient conflict."""
        return self.root / "interference.jsonl"

    @property
    def wandb_id(self) -> Path:
        """What Weights & Biases knows the run by."""
        return self.root / "wandb.id"

    @property
    def faults(self) -> Path:
        """One line for every step that the guard found bad; see ``trainer.guard``."""
        return self.root / "faults.jsonl"

    def log(self, rank: int) -> Path:
        return self.root / "log" / f"rank_{rank}.log"

    def stacks(self, rank: int) -> Path:
        """Where a rank's threads were when it left because a rank was lost."""
        return self.root / "log" / f"rank_{rank}.stacks.txt"

    @property
    def profile(self) -> Path:
        """Traces of steps; see ``trainer.meters.profile``."""
        return self.root / "profile"

    @property
    def alive(self) -> Path:
        """Signs of life of the ranks."""
        return self.root / "alive"

    def phase(self, name: str) -> Path:
        return self.root / "phases" / name

    def export(self, phase: str) -> Path:
        """Hugging Face model directory of a finished phase."""
        return self.phase(phase) / "hf"

    def evaluation(self, column: str) -> Path:
        """Evaluation of a finished phase, of INITIAL weights, or between phases (``step_column``)."""
        if column == INITIAL:
            return self.root / INITIAL / "evaluation.json"
        if is_step_column(column):
            return self.root / _EVALUATIONS / column / "evaluation.json"
        return self.phase(column) / "evaluation.json"

    def predictions(self, column: str) -> Path:
        """Folder of the answers behind an evaluation: ``<prompt set>/<task>.jsonl``."""
        return self.evaluation(column).parent / "predictions"

    @property
    def checkpoints(self) -> Path:
        """See ``trainer.checkpoint.folder``."""
        return self.root / "checkpoints"

    @property
    def stop_file(self) -> Path:
        """Whoever makes it stops the run at its next step; see ``trainer.stopping``."""
        return self.root / "STOP"

    @property
    def stopped(self) -> Path:
        """Why the run stopped before its end; removed when it goes on."""
        return self.root / "stopped.json"

    @property
    def report(self) -> Path:
        """The page; the last thing that a run writes."""
        return self.root / "report.html"

    def finished(self, phase: str) -> dict[str, Any] | None:
        """What a finished phase recorded (``last_step`` among others), or None."""
        path = self.phase(phase) / "phase.json"
        return read_json(path) if path.is_file() else None

    def begin(self, phases: Iterable[str], continuing: bool) -> None:
        """Clear what this run will make again.

        A fresh run clears earlier results of the same run directory; a run that continues keeps them.

        Args:
            phases: those that it will finish.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        for phase in phases:
            shutil.rmtree(self.phase(phase), ignore_errors=True)
        for path in (self.stopped, self.report):
            path.unlink(missing_ok=True)
        if not continuing:
            for name in ("phases", "checkpoints", _EVALUATIONS, INITIAL):
                shutil.rmtree(self.root / name, ignore_errors=True)
            for path in self.logs_of_steps:
                path.unlink(missing_ok=True)

    @property
    def logs_of_steps(self) -> list[Path]:
        """Files of JSON lines that grow while the run trains."""
        return [self.metrics, self.interference, self.faults]

    def cursors(self) -> dict[str, int]:
        """How long every file of :attr:`logs_of_steps` is now, in bytes."""
        return {path.name: path.stat().st_size for path in self.logs_of_steps if path.is_file()}

    def cut(self, cursors: Mapping[str, int], global_step: int) -> None:
        """Take back what was written after the cursors were: those steps are trained again.

        Args:
            global_step: evaluations between phases of this step and later ones go.
        """
        for path in self.logs_of_steps:
            length = cursors.get(path.name, 0)
            if path.is_file() and path.stat().st_size > length:
                os.truncate(path, length)
        for folder in (self.root / _EVALUATIONS).glob("step_*"):
            if int(folder.name.removeprefix("step_")) >= global_step:
                shutil.rmtree(folder)

    def cut_after(self, step: int) -> None:
        """The same for a run that continues from weights alone: keep what is of steps up to ``step``."""
        for path in self.logs_of_steps:
            if path.is_file():
                kept = [one for one in read_json_lines(path) if one["step"] <= step]
                write_json_lines(path, kept)
        for folder in (self.root / _EVALUATIONS).glob("step_*"):
            if int(folder.name.removeprefix("step_")) > step:
                shutil.rmtree(folder)

    def inherit(self, other: RunDirectory, phases: Iterable[str]) -> None:
        """Take over what another run measured up to the checkpoint that this one continues from."""
        for path in other.logs_of_steps:
            if path.is_file():
                shutil.copyfile(path, self.root / path.name)
        names = [INITIAL, _EVALUATIONS, *(f"phases/{phase}" for phase in phases)]
        for name in names:
            if (other.root / name).is_dir():
                shutil.copytree(
                    other.root / name,
                    self.root / name,
                    ignore=shutil.ignore_patterns("hf"),
                    dirs_exist_ok=True,
                )


def is_step_column(name: str) -> bool:
    """Whether evaluations between phases are kept under names like this."""
    return _STEP_COLUMN.fullmatch(name) is not None


def step_column(global_step: int) -> str:
    """Name of an evaluation between phases."""
    return f"step_{global_step:06d}"


def read_json(path: Path) -> Any:
    """Parse a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one rename, so that readers never see half a file."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; none where there is no file.

    A last line without its end is still being written, or its writer was killed: it does not count.

    Raises:
        ValueError: another line is damaged.
    """
    if not path.is_file():
        return []
    found = []
    with path.open(encoding="utf-8") as file:  # str.splitlines also splits inside texts, at U+2028
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
    return found


def write_json_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, in one rename."""
    lines = [json.dumps(value, ensure_ascii=False) + "\n" for value in values]
    write_text(path, "".join(lines))


def write_text(path: Path, text: str) -> None:
    """Write a text file in one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.tmp{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def environment(world_size: int) -> dict[str, Any]:
    """Versions, machine and commit, for ``environment.json``; secrets of the command masked."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": masked_arguments(sys.argv),
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        # PyTorch's own word, which tells the CUDA that it was built for; the package's name may not
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"torch": torch.__version__},
        "gpu": gpu,
        "cpu_cores": os.cpu_count(),
        "world_size": world_size,
    }


def _commit() -> str | None:
    """Of the checkout that this runs from; an image has neither git nor a checkout, but a variable."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    repository = Path(__file__).resolve().parents[1]
    try:
        found = subprocess.run(
            command, cwd=repository, capture_output=True, text=True, check=False
        ).stdout.strip()
    except OSError:
        found = ""
    return found or os.environ.get("POLYPHASE_REVISION") or None
