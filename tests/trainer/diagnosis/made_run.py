"""A healthy run of the built-in benchmark as its files would tell it, and ways to make it ill.

The configuration is composed by Hydra, so the overrides that a finding names can be tried on it.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from launch.composing import addable
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config, to_plain
from trainer.config.validate import validate
from trainer.diagnosis import Finding
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.rule import Rule
from trainer.evaluation.results import (
    Crosstalk,
    Evaluation,
    Figure,
    SetResult,
    TaskResult,
    share,
)
from trainer.run_directory import INITIAL, RunDirectory
from trainer.run_facts import RunFacts

REPOSITORY = Path(__file__).resolve().parents[3]
SPECIAL = (
    *("qa", "translation", "summarization", "classification", "extraction"),
    *("sorting", "code", "math", "json", "style"),
)
GENERAL = "general"
PHASES = ("mix", "specialize")
COLUMNS = (INITIAL, *PHASES)
STEPS = 100
ROWS = 200
BASE = ("experiment=bench/demo", "+phase=[mix,specialize]")


@cache
def config_of(*overrides: str) -> Config:
    """The configuration that overrides of the program compose; they have to be valid."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        tree = compose("train", overrides=addable(list(overrides)))
    assert isinstance(tree, DictConfig)
    config = to_config(tree)
    config.model.path = str(REPOSITORY / str(config.model.path))
    validate(config, 1)
    return config


def score(value: float, rows: int = ROWS) -> Figure:
    """A share of about ``value`` of the rows."""
    return share(round(value * rows), rows)


class MadeRun:
    """A run that can be changed piece by piece, then written and read.

    Attributes:
        scores: column -> task -> score; None where no metric judges it.
        losses, train_losses: column -> task -> nats.
        in_format: column -> special task -> share.
        matrix: prompt set -> task -> behaviour -> share of the answers.
        answers: task -> (answer, gold) of every ordinary row; finished unless in ``cut``.
        train_rows: task -> (answer, loss) of the sampled training rows.
        uses: phase -> task -> (rows, distinct, answer tokens).
        steps: phase -> entries of ``metrics.jsonl``.
    """

    def __init__(self, *overrides: str) -> None:
        self.overrides = (*BASE, *overrides)
        self.config: dict[str, Any] = deepcopy(to_plain(config_of(*self.overrides)))
        every = (*SPECIAL, GENERAL)
        self.scores: dict[str, dict[str, float | None]] = {
            INITIAL: dict.fromkeys(SPECIAL, 0.0) | {GENERAL: 0.9},
            "mix": dict.fromkeys(SPECIAL, 0.7) | {GENERAL: 0.9},
            "specialize": dict.fromkeys(SPECIAL, 0.85) | {GENERAL: 0.9},
        }
        self.losses = {
            INITIAL: dict.fromkeys(SPECIAL, 8.0) | {GENERAL: 0.1},
            "mix": dict.fromkeys(SPECIAL, 0.5) | {GENERAL: 0.1},
            "specialize": dict.fromkeys(SPECIAL, 0.3) | {GENERAL: 0.1},
        }
        self.trained: dict[str, float | None] = dict.fromkeys(every, 0.25)
        self.in_format = {column: dict.fromkeys(SPECIAL, 1.0) for column in COLUMNS}
        self.matrix: dict[str, dict[str, dict[str, float]]] = {
            name: {task: {task: 1.0} for task in SPECIAL}
            for name in ("ordinary", "conflict", "no_tag")
        }
        self.processed: dict[str, float] = {}
        self.set_scores: dict[tuple[str, str], float] = {}
        self.answers: dict[str, list[tuple[str, str]]] = {
            task: [(f"answer {n} .", f"answer {n} .") for n in range(ROWS)] for task in SPECIAL
        }
        self.cut: set[str] = set()
        self.train_rows: dict[str, list[tuple[str, float]]] = {}
        self.uses = {phase: {task: (500, 400, 2000) for task in every} for phase in PHASES}
        self.lengths = dict.fromkeys(PHASES, STEPS)
        self.warmup = dict.fromkeys(PHASES, 3)
        self.efficiency = 0.9
        self.steps: dict[str, list[dict[str, Any]]] = {
            phase: [
                self._step(
                    phase, STEPS * number + index, 0.5 / (number + 1) + 2 / (index + 5 * number + 4)
                )
                for index in range(1, STEPS + 1)
            ]
            for number, phase in enumerate(PHASES)
        }
        self.columns = list(COLUMNS)
        self.interference: list[dict[str, Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.has_crosstalk = True
        self.generates = True

    def setting(self, key: str, value: Any) -> None:
        """Set one dotted key of the run's configuration."""
        *path, last = key.split(".")
        place = self.config
        for name in path:
            place = place[name]
        place[last] = value

    def _step(self, phase: str, step: int, loss: float) -> dict[str, Any]:
        wave = 0.01 * ((step * 7) % 5 - 2)  # batches differ
        losses = {f"loss/{task}": loss + wave for task in SPECIAL}
        counts = {f"tokens/{task}": 20 for task in SPECIAL}
        return {
            "step": step,
            "phase": phase,
            "loss": loss + wave,
            "lr": 1e-3,
            "grad_norm": 1.0,
            "tokens": 1000,
            "tokens_per_second": 1e3,
            "data_wait_seconds": 0.0,
            **losses,
            **counts,
        }

    def facts(self, root: Path) -> RunFacts:
        """Write the answers; the run as ``read_run`` would read it."""
        run = RunDirectory(root)
        for column in self.columns:
            folder = run.predictions(column) / "ordinary"
            folder.mkdir(parents=True, exist_ok=True)
            if self.generates:
                for task, pairs in self.answers.items():
                    rows = [
                        {
                            "origin": f"eval/{task}.jsonl:{number + 1}",
                            "language": "en",
                            "prompt": "?",
                            "request": "?",
                            "answer": answer,
                            "processed": answer,
                            "gold": gold,
                            "finished": task not in self.cut,
                            "scores": {},
                            "raw_scores": {},
                            "behaviour": task,
                            "format_violations": [],
                            "processed_violations": [],
                        }
                        for number, (answer, gold) in enumerate(pairs)
                    ]
                    _write(folder / f"{task}.jsonl", rows)
            rows = [
                {
                    "task": task,
                    "answer": answer,
                    "loss": loss,
                    "row_id": f"{task}-{number}",
                    "origin": f"train/{task}.jsonl:{number + 1}",
                }
                for task, some in self.train_rows.items()
                for number, (answer, loss) in enumerate(some)
            ]
            if rows:
                _write(run.evaluation(column).parent / "train_losses.jsonl", rows)
        return RunFacts(
            run,
            self.config,
            self._plan(),
            {},
            [entry for steps in self.steps.values() for entry in steps],
            [],
            {column: self._evaluation(column) for column in self.columns},
            self.interference,
            self.faults,
        )

    def _plan(self) -> dict[str, Any]:
        phases: dict[str, Any] = {}
        last = 0
        for phase, uses in self.uses.items():
            total = sum(rows for rows, _, _ in uses.values())
            tokens = sum(some for _, _, some in uses.values())
            phases[phase] = {
                "first_step": last + 1,
                "last_step": last + self.lengths[phase],
                "warmup_steps": self.warmup[phase],
                "packing_efficiency": self.efficiency,
                "tasks": {
                    task: {
                        "rows": rows,
                        "distinct": distinct,
                        "max_repeats": -(-rows // distinct),
                        "answer_tokens": some,
                        "row_share": rows / total,
                        "answer_token_share": some / tokens,
                        "asked_share": rows / total,
                        "available": distinct,
                        "tokens": 3 * some,
                        "negatives": 0,
                        "sources": {},
                    }
                    for task, (rows, distinct, some) in uses.items()
                },
            }
            last += self.lengths[phase]
        return {"phases": phases}

    def _evaluation(self, column: str) -> Evaluation:
        tasks = {}
        for task, loss in self.losses[column].items():
            value = self.scores[column][task]
            special = task != GENERAL
            sets = {}
            if self.generates and value is not None:
                names = self.matrix if special else ("ordinary",)
                for name in names:
                    raw = self.set_scores.get((name, task), value)
                    inside = score(self.in_format[column][task] if special else 1.0)
                    sets[name] = SetResult(
                        ROWS,
                        {"exact_match": score(raw)},
                        {"exact_match": score(self.processed.get(task, raw))},
                        0,
                        inside,
                        inside,
                    )
            tasks[task] = TaskResult(
                ROWS, loss, not special, "exact_match", sets, self.trained[task]
            )
        talk = {}
        if self.generates and self.has_crosstalk and column != INITIAL:
            talk = {name: self._crosstalk(name) for name in self.matrix}
        return Evaluation(tasks, talk)

    def _crosstalk(self, name: str) -> Crosstalk:
        labels = [*SPECIAL, GENERAL, "mixed", "none"]
        rows = self.matrix[name]
        matrix = [[rows[task].get(label, 0.0) for label in labels] for task in SPECIAL]
        leaks = {
            task: sum(v for label, v in rows[task].items() if label not in (task, "mixed", "none"))
            for task in SPECIAL
        }
        mean = sum(leaks.values()) / len(leaks)
        return Crosstalk(
            list(SPECIAL),
            labels,
            matrix,
            replace(score(mean, ROWS * len(SPECIAL)), value=mean),
            {task: score(value) for task, value in leaks.items()},
            {},
            {
                label: sum(rows[task].get(label, 0.0) for task in SPECIAL if task != label) / 9
                for label in (*SPECIAL, GENERAL)
            },
            {task: rows[task].get(task, 0.0) for task in SPECIAL},
            {
                task: (self.scores[PHASES[-1]][task] or 0.0) / rows[task][task]
                if rows[task].get(task)
                else None
                for task in SPECIAL
            },
            dict.fromkeys(SPECIAL, 0.0),
        )


def found_by(rule: Rule, run: MadeRun, root: Path) -> list[Finding]:
    """What a rule finds; every set of overrides it names composes to a valid configuration."""
    reading = Reading(run.facts(root))
    assert rule.missing(reading) == ""
    findings = rule.check(reading)
    for one in findings:
        assert one.rule == rule.name
        assert one.evidence
        if one.overrides:
            config_of(*run.overrides, *one.overrides)
    return findings


def missing_of(rule: Rule, run: MadeRun, root: Path) -> str:
    """Why a rule cannot check a run."""
    return rule.missing(Reading(run.facts(root)))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
