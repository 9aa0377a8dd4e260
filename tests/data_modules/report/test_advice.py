"""Every rule of the advice fires on its case and stays silent beside it."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from data_modules.report import QUALITY_EDGES, Report, TaskReport, advice
from tests.data_modules.report.made_report import (
    clean_report,
    full_report,
    histogram,
    task_report,
)


def quality(score: float, rows: int = 200) -> dict[str, Any]:
    task = task_report(rows)
    task["histograms"]["quality"] = histogram([score] * rows, QUALITY_EDGES)
    return {"histograms": task["histograms"], "quality_mean": score}


def long_samples(length: float, rows: int = 200) -> dict[str, Any]:
    task = task_report(rows)
    task["histograms"]["sample_tokens"] = histogram([length] * rows)
    return {"histograms": task["histograms"]}


# What the line says, a task for which it is said, one that just escapes it.
CASES: list[tuple[str, TaskReport, TaskReport]] = [
    ("could not be read (math 1)", task_report(unreadable=1), task_report()),
    (
        "3 training rows ask what an evaluation row asks (math 3)",
        task_report(rejects={"contamination": 3}),
        task_report(rejects={"contamination": 0}),
    ),
    ("fewer than 50 rows (math 49)", task_report(49), task_report(50)),
    (
        "math has 1,000 rows, 5 times as many as qa (200)",
        task_report(1000),
        task_report(990),
    ),
    ("of the answer tokens", task_report(answer_tokens=100), task_report(answer_tokens=30)),
    (
        "math 5.5% of the rows; 11 rows are dropped, 0 cut short. Try `data.max_seq_len=4096`",
        task_report(overlong=11),
        task_report(overlong=10),
    ),
    (
        "0 rows are dropped, 20 cut short. Try `data.max_seq_len=8192`",
        task_report(truncated=20, **long_samples(5000.0)),
        task_report(truncated=2, **long_samples(5000.0)),
    ),
    ("2 rows have no token to train on", task_report(all_masked=2), task_report()),
    (
        "near duplicates are left out (math 20 rows, 9%)",
        task_report(rejects={"near_duplicate": 20}),
        task_report(rejects={"near_duplicate": 10}),
    ),
    (
        "Cleaning leaves out much: math 23%, mostly refusal",
        task_report(rejects={"refusal": 40, "encoding": 20}),
        task_report(rejects={"refusal": 40, "encoding": 10}),
    ),
    (
        "No zh rows in math; 3 of 4 tasks have them",
        task_report(languages={"en": 200}),
        task_report(languages={"en": 199, "zh": 1}),
    ),
    (
        "Low mean quality: math 0.31. Leave out about the worst quarter of these rows with "
        "`++data.cleaning.min_quality=0.3`",
        task_report(**quality(0.31)),
        task_report(**quality(0.51)),
    ),
]


@pytest.mark.parametrize(("said", "case", "control"), CASES, ids=[case[0][:30] for case in CASES])
def test_a_task_that_calls_for_advice(said: str, case: TaskReport, control: TaskReport) -> None:
    found = advice(clean_report(math=case))
    assert sum(said in line for line in found) == 1, found
    assert advice(clean_report(math=control)) == []


def without_general() -> Report:
    report = clean_report()
    report["tasks"]["chat"]["general"] = False
    return report


def with_unknown_ids() -> Report:
    report = clean_report()
    report["forced"]["unknown_ids"] = [f"id{i}" for i in range(7)]
    return report


def without_rows() -> Report:
    report = clean_report()
    report["tasks"] = {"chat": task_report(0, general=True)}
    return report


def test_a_report_that_calls_for_advice() -> None:
    assert advice(clean_report()) == []
    (line,) = advice(without_general())
    assert line.startswith("No general task")
    (line,) = advice(with_unknown_ids())
    assert line.startswith(
        "7 ids of data.cleaning.keep and drop name no row (id0, id1, id2, id3, id4 and 2 more)"
    )
    assert advice(without_rows())[0].startswith("No row was read under data/clean")


def test_general_tasks_are_not_balanced_nor_unscored_rows_poor() -> None:
    big = task_report(5000, general=True)
    unscored = task_report(quality_mean=0.0)
    unscored["histograms"]["quality"] = histogram([], QUALITY_EDGES)
    assert not [line for line in advice(clean_report(chat=big)) if "unbalanced" in line.lower()]
    assert advice(clean_report(math=unscored)) == []


def test_overrides_name_the_first_phase() -> None:
    report = clean_report(math=task_report(1000))
    assert "`balance@curriculum.phases.PHASE.balance=caps`" in advice(report)[0]
    report["phases"] = full_report()["phases"]
    assert "`balance@curriculum.phases.mix.balance=caps`" in advice(report)[0]


def test_overrides_are_what_hydra_reads() -> None:
    reports = [
        *(clean_report(math=case) for _, case, _ in CASES),
        *(without_general(), with_unknown_ids(), full_report()),
    ]
    parts = {
        part for one in reports for line in advice(one) for part in re.findall("`(.*?)`", line)
    }
    overrides = [shlex.split(part) for part in parts if "=" in part]
    assert len(overrides) > 14
    parser = OverridesParser.create()
    for arguments in overrides:
        assert parser.parse_overrides(arguments)


def test_fifty_tasks_give_as_many_lines_as_ten() -> None:
    lines = advice(full_report(50))
    assert len(lines) <= 14
    assert max(map(len, lines)) < 700


def test_no_tasks_at_all() -> None:
    report = clean_report()
    report["tasks"] = {}
    assert any("No row was read" in line for line in advice(report))
