"""Everything a finished or running run has left in its directory, read once: for diagnosis and reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data_modules.faults import DataFault, Fault
from trainer.evaluation import results
from trainer.evaluation.results import Evaluation
from trainer.run_directory import INITIAL, RunDirectory, read_json, read_json_lines

Read = TypeVar("Read")

_REMEDY = "Take the file from a copy, or leave the run out."


@dataclass(frozen=True)
class RunFacts:
    """A run as its files tell it.

    Attributes:
        config: ``config.yaml`` as plain values.
        plan: ``plan.json``.
        steps: the entries of ``metrics.jsonl`` with a loss, in order.
        other_metrics: its other entries: evaluations, mixtures.
        evaluations: column (``initial`` or a phase) -> evaluation, in training order.
        interference: entries of ``interference.jsonl``, in order.
        faults: entries of ``faults.jsonl``, in the order in which they were met.
    """

    directory: RunDirectory
    config: dict[str, Any]
    plan: dict[str, Any]
    environment: dict[str, Any]
    steps: list[dict[str, Any]]
    other_metrics: list[dict[str, Any]]
    evaluations: dict[str, Evaluation]
    interference: list[dict[str, Any]]
    faults: list[dict[str, Any]] = field(default_factory=list)

    @property
    def phases(self) -> list[str]:
        """The phases of the plan, in training order."""
        return list(self.plan["phases"])

    @property
    def last(self) -> Evaluation | None:
        """The newest evaluation."""
        return list(self.evaluations.values())[-1] if self.evaluations else None

    def predictions(self, column: str, prompt_set: str, task: str) -> list[dict[str, Any]]:
        """The answers kept of an evaluation; none where none were written."""
        return read_json_lines(self.directory.predictions(column) / prompt_set / f"{task}.jsonl")


def read_run(root: Path) -> RunFacts:
    """Read a run directory.

    Raises:
        DataFault: it is none, or a file in it is damaged.
    """
    run = RunDirectory(root)
    needed = ("config.yaml", "plan.json", "environment.json", "metrics.jsonl")
    missing = [name for name in needed if not (root / name).is_file()]
    if missing:
        raise DataFault(
            Fault(
                str(root),
                f"no {', '.join(missing)}",
                "a run directory is what launch/train.py writes",
                "Name the folder that holds metrics.jsonl, such as outputs/<run_name>.",
            )
        )
    config = _whole(root / "config.yaml", _read_config)
    plan = _whole(root / "plan.json", _read_plan)
    metrics = _whole(run.metrics, _read_metrics)
    order, planned = list(config["curriculum"]["phases"]), _planned(plan)
    if not set(planned) <= set(order):
        seen = f"its phases are {', '.join(order) or 'none'}"
        rule = f"plan.json beside it has {', '.join(planned)}"
        raise DataFault(Fault(str(root / "config.yaml"), seen, rule, _REMEDY))
    evaluations = {
        column: _whole(run.evaluation(column), results.load)
        for column in (INITIAL, *_phases_so_far(order, planned))
        if run.evaluation(column).is_file()
    }
    return RunFacts(
        run,
        config,
        plan,
        _whole(root / "environment.json", read_json),
        [entry for entry in metrics if "loss" in entry],
        [entry for entry in metrics if "loss" not in entry],
        evaluations,
        _whole(run.interference, read_json_lines),
        _whole(run.faults, read_json_lines),
    )


def _whole(path: Path, read: Callable[[Path], Read]) -> Read:
    """What a file holds.

    Raises:
        DataFault: it is damaged, or of a version that wrote it otherwise.
    """
    try:
        return read(path)
    except (ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        seen = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataFault(
            Fault(
                str(path),
                f"it cannot be read ({seen})",
                "a run's files are as polyphase wrote them",
                _REMEDY,
            )
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    dict(config["curriculum"]["phases"])
    return config


def _read_plan(path: Path) -> dict[str, Any]:
    plan: dict[str, Any] = read_json(path)
    if not {**plan["phases"], **plan.get("later", {})}:
        raise ValueError("no phases")
    return plan


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    found = read_json_lines(path)
    for number, entry in enumerate(found, 1):
        loss = entry.get("loss", 0.0)
        if not isinstance(entry["step"], int) or not isinstance(loss, int | float):
            raise ValueError(f"line {number}: step {entry['step']!r}, loss {loss!r}")
    return found


def _planned(plan: dict[str, Any]) -> list[str]:
    return [*plan["phases"], *plan.get("later", {})]


def _phases_so_far(order: list[str], planned: list[str]) -> list[str]:
    """The planned phases, behind those that the curriculum has before them.

    What else lies in the directory is of an earlier run, and of other weights.
    """
    before = order[: order.index(planned[0])]
    return [*(name for name in before if name not in planned), *planned]
