"""The report as one self-contained HTML page: no script, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from data_modules.report.advice import advice
from data_modules.report.contents import QUALITY_EDGES, RejectExample, Report, TaskReport
from data_modules.report.drawing import Axis, Drawn, drawn, length_axis
from data_modules.report.figures import (
    CONTAMINATION,
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    is_scored,
    language_counts,
    lengths,
    readable_rows,
    rejected_rows,
    rule_counts,
    sample_rows,
    share,
    shares,
    total,
)
from data_modules.report.markup import page_environment, with_code
from data_modules.report.visible import visible

_COLOURED_LANGUAGES = 6
_LENGTHS = (("prompt_tokens", "prompt"), ("answer_tokens", "answer"), ("sample_tokens", "sample"))


def render_page(report: Report) -> str:
    """The whole page. Texts of rows are escaped, cut, and their invisible characters named."""
    environment = page_environment()
    return environment.get_template("page.html.jinja").render(_view(report))


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of a stacked bar; ``kind`` is its class in the style sheet."""

    kind: str
    label: str
    rows: int
    width: float  # per cent


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of a heat table; ``heat`` in [0, 1]."""

    rows: int
    heat: float
    share: float


# What became of a row that was read: style class, label, rows of a task.
_FATES: tuple[tuple[str, str, Callable[[TaskReport], int]], ...] = (
    ("used", "trained on", sample_rows),
    ("long", "too long", lambda task: task["kept"] - sample_rows(task)),
    (
        "twin",
        "duplicates",
        lambda task: (
            task["rejects"].get(EXACT_DUPLICATE, 0) + task["rejects"].get(NEAR_DUPLICATE, 0)
        ),
    ),
    ("leak", "contamination", lambda task: task["rejects"].get(CONTAMINATION, 0)),
    (
        "rule",
        "other rules",
        lambda task: sum(
            rows
            for rule, rows in task["rejects"].items()
            if rule not in (EXACT_DUPLICATE, NEAR_DUPLICATE, CONTAMINATION)
        ),
    ),
    ("broken", "unreadable", lambda task: task["unreadable"]),
    ("unasked", "not selected", lambda task: task["not_selected"]),
)


def _view(report: Report) -> dict[str, Any]:
    """Everything that the template shows, beside the report itself."""
    tasks = report["tasks"]
    of_rows = shares(report, sample_rows)
    of_answers = shares(report, lambda task: task["answer_tokens"])
    rules = rule_counts(report)
    return {
        "report": report,
        "advice": [with_code(line) for line in advice(report)],
        "totals": _totals(report),
        "tasks": [
            {
                "name": name,
                "task": task,
                "samples": sample_rows(task),
                "rejected": rejected_rows(task),
                "row_share": of_rows[name],
                "token_share": of_answers[name],
                "lengths": lengths(task),
                "fates": _segments(
                    ((kind, label, rows(task)) for kind, label, rows in _FATES), task["read"]
                ),
                "quality": drawn(task["histograms"]["quality"], _QUALITY_AXIS, "quality")
                if is_scored(task)
                else None,
            }
            for name, task in tasks.items()
        ],
        "fates": [(kind, label, total(report, rows)) for kind, label, rows in _FATES],
        "share_scale": max([*of_rows.values(), *of_answers.values()], default=0.0) or 1.0,
        "has_quality": any(is_scored(task) for task in tasks.values()),
        "histograms": _histograms(report),
        "languages": _languages(report),
        "duplicates": _duplicates(report),
        "heat": _heat_table(report, [rule for rule, rows in rules.items() if rows]),
        "idle_rules": [rule for rule, rows in rules.items() if not rows],
        "rules": rules,
        "examples": _examples(report, rules),
        "cues": {
            phase: _cue_table(wording["cues"])
            for phase, wording in report["phases"].items()
            if any(rows for cues in wording["cues"].values() for rows in cues.values())
        },
    }


_QUALITY_AXIS = Axis(QUALITY_EDGES[0], QUALITY_EDGES[-1], is_log=False)


def _totals(report: Report) -> dict[str, int]:
    figures: dict[str, Callable[[TaskReport], int]] = {
        "read": lambda task: task["read"],
        "not_selected": lambda task: task["not_selected"],
        "unreadable": lambda task: task["unreadable"],
        "rejected": rejected_rows,
        "readable": readable_rows,
        "kept": lambda task: task["kept"],
        "samples": sample_rows,
        "negatives": lambda task: task["negatives"],
        "unified": lambda task: task["unified"],
        "tokens": lambda task: task["tokens"],
        "answer_tokens": lambda task: task["answer_tokens"],
        "truncated": lambda task: task["truncated"],
        "too_long": lambda task: task["overlong"] + task["all_masked"],
        "sources": lambda task: len(task["sources"]),
        "duplicates": lambda task: sum(
            task["rejects"].get(rule, 0) for rule in (EXACT_DUPLICATE, NEAR_DUPLICATE)
        ),
        "contamination": lambda task: task["rejects"].get(CONTAMINATION, 0),
    }
    return {name: total(report, figure) for name, figure in figures.items()}


def _segments(parts: Iterable[tuple[str, str, int]], whole: int) -> list[_Segment]:
    return [
        _Segment(kind, label, rows, round(100 * share(rows, whole), 3))
        for kind, label, rows in parts
        if rows
    ]


def _histograms(report: Report) -> dict[str, Any]:
    """Three length histograms a task, all on one axis so that tasks compare."""
    tasks = report["tasks"]
    axis = length_axis(
        (task["histograms"][key] for task in tasks.values() for key, _ in _LENGTHS),
        least=report["max_seq_len"],
    )
    charts: dict[str, list[tuple[str, Drawn]]] = {
        name: [(label, drawn(task["histograms"][key], axis, "tokens")) for key, label in _LENGTHS]
        for name, task in tasks.items()
    }
    return {"ticks": axis.ticks(), "limit_at": axis.at(report["max_seq_len"]), "charts": charts}


def _languages(report: Report) -> dict[str, Any]:
    """Stacked bars of languages, the commonest coloured alike everywhere."""
    counts = language_counts(report["tasks"].values())
    coloured = {language: f"l{i}" for i, language in enumerate(counts) if language}
    coloured = dict(list(coloured.items())[:_COLOURED_LANGUAGES])

    def parts(task_counts: Mapping[str, int]) -> Iterable[tuple[str, str, int]]:
        for language in counts:
            rows = task_counts.get(language, 0)
            yield coloured.get(language, "other"), visible(language) or "unknown", rows

    return {
        "legend": [(kind, label, rows) for kind, label, rows in parts(counts)],
        "tasks": {
            name: _segments(parts(task["languages"]), sum(task["languages"].values()))
            for name, task in report["tasks"].items()
        },
    }


def _duplicates(report: Report) -> list[tuple[str, dict[str, int], int]]:
    """Tasks with duplicates or contamination: name, rows by rule, readable rows."""
    rules = (EXACT_DUPLICATE, NEAR_DUPLICATE, CONTAMINATION)
    return [
        (name, {rule: task["rejects"].get(rule, 0) for rule in rules}, readable_rows(task))
        for name, task in report["tasks"].items()
        if any(task["rejects"].get(rule, 0) for rule in rules)
    ]


def _heat_table(report: Report, rules: list[str]) -> dict[str, Any]:
    """Tasks x everything that can happen to a row, coloured by its share of the task's rows."""
    columns: list[tuple[str, Callable[[TaskReport], int]]] = [
        ("unreadable", lambda task: task["unreadable"]),
        *((rule, _count_of(rule)) for rule in rules),
        ("overlong", lambda task: task["overlong"]),
        ("all_masked", lambda task: task["all_masked"]),
        ("truncated", lambda task: task["truncated"]),
    ]
    columns = [(name, rows) for name, rows in columns if name in rules or total(report, rows)]
    parts = {
        name: [share(rows(task), readable_rows(task) + task["unreadable"]) for _, rows in columns]
        for name, task in report["tasks"].items()
    }
    hottest = max((part for line in parts.values() for part in line), default=0.0) or 1.0
    return {
        "columns": [name for name, _ in columns],
        "totals": [total(report, rows) for _, rows in columns],
        "lines": {
            name: [
                # The root, so that a small share is still seen beside a large one.
                _Cell(rows(task), round((part / hottest) ** 0.5, 3), part)
                for (_, rows), part in zip(columns, parts[name], strict=True)
            ]
            for name, task in report["tasks"].items()
        },
    }


def _examples(report: Report, rules: Mapping[str, int]) -> dict[str, list[RejectExample]]:
    """Examples by rule: cleaning rules as they are counted, then those of reading and tokenising."""
    order = [*(rule for rule in rules if rule in report["examples"]), *report["examples"]]
    return {rule: report["examples"][rule] for rule in order if report["examples"][rule]}


def _count_of(rule: str) -> Callable[[TaskReport], int]:
    return lambda task: task["rejects"].get(rule, 0)


def _cue_table(cues: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Task x task whose cue its rows carry."""
    columns = sorted({other for counts in cues.values() for other, rows in counts.items() if rows})
    most = max((rows for counts in cues.values() for rows in counts.values()), default=0) or 1
    return {
        "columns": columns,
        "totals": [sum(counts.get(other, 0) for counts in cues.values()) for other in columns],
        "lines": {
            task: [
                _Cell(rows, round((rows / most) ** 0.5, 3), share(rows, sum(counts.values())))
                for rows in (counts.get(other, 0) for other in columns)
            ]
            for task, counts in cues.items()
        },
    }
