"""How far a run is, from its directory alone: on any host, whoever started it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from data_modules.faults import DataFault, Fault
from trainer.run_directory import RunDirectory, read_json
from trainer.watchdog import signs

#: Steps that the pace is taken from: the newest ones.
_PACE_STEPS = 50
#: A sign of life that is older tells of a run that ended without a word. Hosts' clocks may differ.
_SILENT_SECONDS = 120.0


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        state: ``finished``, ``running``, ``stopped``, ``failed``, ``not running``, ``not started``, or
            ``damaged`` where its files say what no run writes.
        words: more about the state: where it is, or why it is not running.
        phase: of the newest step; "" before the first.
        step: steps done.
        last_step: last step of the plan; phases that are planned later, or by later jobs, are not in it.
        phase_step, phase_steps: the same within the phase.
        loss: of the newest step.
        seconds_left: until ``last_step`` at the pace of the newest steps, without evaluations.
    """

    state: str
    words: str
    phase: str = ""
    step: int = 0
    last_step: int = 0
    phase_step: int = 0
    phase_steps: int = 0
    loss: float | None = None
    seconds_left: float | None = None


def progress_of(root: Path) -> Progress:
    """Read it.

    Raises:
        DataFault: there is no such directory.
    """
    if not root.is_dir():
        raise DataFault(Fault(str(root), "no such directory", "it names a run directory"))
    try:
        return _progress(RunDirectory(root))
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        return Progress("damaged", f"{type(error).__name__}: {error}")


def _progress(run: RunDirectory) -> Progress:
    state, words = _state(run)
    steps = [one for one in _lines(run.metrics) if "tokens_per_second" in one]
    if not steps:
        return Progress(state, words)
    newest = steps[-1]
    plan = (_read(run.root / "plan.json") or {}).get("phases", {})
    here: dict[str, Any] = plan.get(newest["phase"], {})
    last_step = max((one["last_step"] for one in plan.values()), default=newest["step"])
    left = max(0, last_step - newest["step"])
    pace = median(one["tokens"] / one["tokens_per_second"] for one in steps[-_PACE_STEPS:])
    first = here.get("first_step", 1)
    return Progress(
        state=state,
        words=words,
        phase=newest["phase"],
        step=newest["step"],
        last_step=last_step,
        phase_step=newest["step"] - first + 1,
        phase_steps=here.get("last_step", newest["step"]) - first + 1,
        loss=next((one["loss"] for one in reversed(steps) if "loss" in one), None),
        seconds_left=left * pace if state != "finished" else 0.0,
    )


def _state(run: RunDirectory) -> tuple[str, str]:
    """The run's state and more about it."""
    if run.stopped.is_file():
        stopped = _read(run.stopped) or {"why": "stopped.json is damaged", "exit_code": "unknown"}
        return "stopped", f"{stopped['why']} (exit code {stopped['exit_code']})"
    sign = _main_sign(run)
    if run.report.is_file() and (sign is None or sign["state"] == signs.State.done):
        return "finished", ""
    if sign is None:
        return "not started", ""
    who = f"rank 0 on {sign['identity']['host']}"
    if sign["state"] in (signs.State.failed, signs.State.lost):
        return "failed", f"{who}: {sign['words']}"
    silent = time.time() - datetime.strptime(sign["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    seen = f"{who} was last seen {silent:.0f} s ago at '{sign['place']}'"
    if sign["state"] == signs.State.done or silent > _SILENT_SECONDS:
        return "not running", seen
    if _is_gone(sign["identity"]):
        return "not running", f"{seen}, and its process is gone"
    return "running", f"{who}: {sign['place']}"


def _is_gone(identity: dict[str, Any]) -> bool:
    """Whether a process that told of itself has ended, as far as can be seen from here."""
    try:
        known = signs.Identity(**identity)
    except TypeError:  # another version's
        return False
    return known.is_gone(signs.Identity.of_this_process(known.rank))


def _main_sign(run: RunDirectory) -> dict[str, Any] | None:
    """The main rank's sign of life, of whatever attempt."""
    return _read(signs.file_of(run.alive, 0))


def _read(path: Path) -> dict[str, Any] | None:
    """What a file says; None where there is none, or a full disk or a crash left it damaged."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines: the last one may be half written."""
    try:
        texts = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return []
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(json.loads(text))
    return [one for one in found if isinstance(one, dict)]
