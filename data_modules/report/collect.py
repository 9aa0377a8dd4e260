"""What preparing found and made, collected from a prepared data module."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np

from data_modules.cleaning.forced import Forced as ForcedIds
from data_modules.config import TaskConfig
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.clean_unit import UnitStats
from data_modules.prepare.tokeniser import TRUNCATED
from data_modules.report.contents import (
    LENGTH_EDGES,
    QUALITY_EDGES,
    Forced,
    Histogram,
    KeptExample,
    RejectExample,
    Report,
    SourceRows,
    TaskReport,
    Wording,
)
from data_modules.samples import SampleStore

_EXAMPLES = 3


def prepare_report(module: PhaseDataModule, seconds: float) -> Report:
    """Figures of all tasks, of the wording of every phase, and examples of each kind of reject."""
    phases = list(module.mixtures)
    cleaned = module.cleaned
    token_rejects = module.token_stats(phases[0]).rejects
    store = module.store(phases[0])
    compared = cleaned.compared
    return {
        "name": module.data.name,
        "root": module.data.root,
        "fingerprint": cleaned.fingerprint,
        "seconds": seconds,
        "tokenizer": str(module.tokenizer.name_or_path),
        "max_seq_len": module.data.max_seq_len,
        "workers": module.data.workers or len(os.sched_getaffinity(0)),
        "rejects_file": str(module.rejects_file(phases[0])),
        "tasks": {
            task: _task(
                task,
                module.data.tasks[task],
                [unit for unit in cleaned.units if unit.task == task],
                compared.get(task, {}),
                token_rejects.get(task, {}),
                store,
                _kept(module, task),
            )
            for task in module.trained_tasks
        },
        "phases": {phase: _wording(module, phase) for phase in phases},
        "examples": _rejected(module.rejects_file(phases[0])),
        "forced": _forced(module, cleaned.units),
    }


def _task(
    task: str,
    settings: TaskConfig,
    units: list[UnitStats],
    compared: dict[str, int],
    token_rejects: dict[str, int],
    store: SampleStore,
    examples: list[KeptExample],
) -> TaskReport:
    rules: Counter[str] = Counter(compared)
    sources: dict[str, SourceRows] = {}
    paths: dict[str, set[str]] = {}
    for unit in units:
        rules.update(unit.rejects)
        paths.setdefault(unit.source, set()).add(unit.path)
        source = sources.setdefault(
            unit.source, {"files": 0, "read": 0, "not_selected": 0, "unreadable": 0, "kept": 0}
        )
        source["files"] = len(paths[unit.source])
        source["read"] += unit.read
        source["not_selected"] += unit.not_selected
        source["unreadable"] += sum(unit.unreadable.values())
        source["kept"] += unit.kept
    rows = store.rows_of(task)
    lengths, answers = store.lengths_of(rows), np.asarray(store.answer_tokens[rows])
    quality = np.asarray(store.quality[rows])
    languages = np.bincount(store.language_ids[rows], minlength=len(store.languages))
    return {
        "general": settings.general,
        "sources": sources,
        "read": sum(unit.read for unit in units),
        "not_selected": sum(unit.not_selected for unit in units),
        "unreadable": sum(sum(unit.unreadable.values()) for unit in units),
        "rejects": dict(rules),
        "kept": sum(unit.kept for unit in units) - sum(compared.values()),
        "negatives": len(store.rows_of(task, sign=-1)),
        "unified": sum(unit.unified for unit in units),
        "languages": {
            name: int(count)
            for name, count in zip(store.languages, languages, strict=True)
            if count
        },
        "tokens": int(lengths.sum()),
        "answer_tokens": int(answers.sum()),
        "overlong": token_rejects.get("overlong", 0),
        "truncated": token_rejects.get(TRUNCATED, 0),
        "all_masked": token_rejects.get("all_masked", 0),
        "histograms": {
            "prompt_tokens": _histogram(lengths - answers, LENGTH_EDGES),
            "answer_tokens": _histogram(answers, LENGTH_EDGES),
            "sample_tokens": _histogram(lengths, LENGTH_EDGES),
            "quality": _histogram(quality, QUALITY_EDGES),
        },
        "quality_mean": float(quality.mean()) if len(quality) else 0.0,
        "examples": examples,
    }


def _histogram(values: np.ndarray, edges: list[float]) -> Histogram:
    # in the values' own type: a score of 0.9 as float32 lies below 0.9
    counts, _ = np.histogram(values, bins=np.array(edges, values.dtype))
    return {"edges": edges, "counts": counts.tolist()}


def _kept(module: PhaseDataModule, task: str) -> list[KeptExample]:
    rows = module.cleaned.rows
    first = rows.right_rows(task)[:_EXAMPLES]
    return [
        {"row_id": one.row_id, "request": one.request, "answer": one.answer}
        for one in rows.fetch(first).values()
    ]


def _wording(module: PhaseDataModule, phase: str) -> Wording:
    counts = module.token_stats(phase).wording
    rows, tagged = counts.rows.total(), counts.tagged.total()
    return {
        "rows": rows,
        "tagged": tagged,
        "untagged": rows - tagged,
        "cues": {task: dict(cues) for task, cues in counts.cues.items()},
        "paraphrased": counts.paraphrased.total(),
    }


def _rejected(path: Path) -> dict[str, list[RejectExample]]:
    """The first rejects of every rule."""
    examples: dict[str, list[RejectExample]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            reject = json.loads(line)
            of_rule = examples.setdefault(reject.pop("rule"), [])
            if len(of_rule) < _EXAMPLES:
                of_rule.append(reject)
    return examples


def _forced(module: PhaseDataModule, units: tuple[UnitStats, ...]) -> Forced:
    verdicts = {row_id: kept for unit in units for row_id, kept in unit.forced.items()}
    return {
        "kept": sum(verdicts.values()),
        "dropped": len(verdicts) - sum(verdicts.values()),
        "unknown_ids": ForcedIds(module.data.cleaning).unmatched(verdicts),
    }
