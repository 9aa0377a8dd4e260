"""The whole diagnosis: nothing on a healthy run, causes before consequences, a lossless file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.trainer.diagnosis.made_run import REPOSITORY, MadeRun
from trainer.diagnosis import Finding, Severity, diagnose, load, print_findings, save, unchecked
from trainer.diagnosis.diagnose import RULES, ranked
from trainer.diagnosis.finding import severity_of


def finding(
    rule: str,
    severity: Severity = Severity.high,
    tasks: tuple[str, ...] = ("qa",),
    points: float = 0.1,
    explains: tuple[str, ...] = (),
    everywhere: bool = False,
) -> Finding:
    return Finding(rule, rule, severity, ["."], [], list(tasks), points, explains, everywhere)


def test_a_healthy_run_has_no_finding(tmp_path: Path) -> None:
    assert diagnose(MadeRun().facts(tmp_path)) == []


def test_what_cannot_be_checked_is_said(tmp_path: Path) -> None:
    run = MadeRun()
    run.generates = False
    found = unchecked(run.facts(tmp_path))
    assert found["over_listing"] == "no answers were generated (evaluation.generate)"
    assert found["crosstalk"].startswith("behaviours were not judged")
    assert found["gradient_conflict"].startswith("too few measurements")
    assert "small_phase" not in found
    assert "divergence" not in found


def test_rules_have_names_of_their_own_and_explain_rules_that_exist() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names) == 22
    assert all(rule.looks_at and rule.__doc__ for rule in RULES)


@pytest.mark.parametrize(
    ("lost", "tasks", "severity", "points"),
    [
        ({"qa": 0.25}, 100, Severity.high, 0.0025),  # one task, severe
        ({"qa": 0.24, "code": 0.24}, 9, Severity.high, 0.48 / 9),  # the mean, severe
        ({"qa": 0.24}, 10, Severity.medium, 0.024),
        ({"qa": 0.05}, 10, Severity.medium, 0.005),
        ({"qa": 0.04}, 10, Severity.low, 0.004),
        ({}, 10, Severity.low, 0.0),
    ],
)
def test_severity(lost: dict[str, float], tasks: int, severity: Severity, points: float) -> None:
    found, score = severity_of(lost, tasks)
    assert found is severity
    assert score == pytest.approx(points)


def test_order_is_severity_then_what_is_at_stake() -> None:
    some = [
        finding("a", Severity.medium, points=0.9),
        finding("b", Severity.high, points=0.1),
        finding("c", Severity.high, points=0.2),
        finding("d", Severity.low, points=1.0),
    ]
    assert [one.rule for one in ranked(some)] == ["c", "b", "a", "d"]


def test_a_consequence_stands_behind_its_cause() -> None:
    cause = finding("poor_data", Severity.medium, points=0.01, explains=("crosstalk",))
    first, second = ranked([finding("crosstalk", points=0.9), cause])
    assert first == cause
    assert (second.rule, second.severity, second.because) == (
        *("crosstalk", Severity.low),
        "poor_data",
    )


def test_a_cause_explains_only_what_happens_to_its_tasks() -> None:
    cause = finding("poor_data", tasks=("qa",), points=0.01, explains=("crosstalk",))
    half = finding("crosstalk", tasks=("qa", "code"))
    assert [one.because for one in ranked([cause, half])] == ["", ""]
    everywhere = finding("poor_data", points=0.01, explains=("crosstalk",), everywhere=True)
    assert [one.because for one in ranked([everywhere, half])] == ["", "poor_data"]


def test_a_minor_finding_explains_nothing() -> None:
    cause = finding("poor_data", Severity.low, explains=("crosstalk",))
    assert [one.rule for one in ranked([cause, finding("crosstalk")])] == ["crosstalk", "poor_data"]


def test_two_that_explain_each_other_stay_apart() -> None:
    one = finding("over_listing", explains=("crosstalk",))
    other = finding("crosstalk", explains=("over_listing",))
    assert [found.because for found in ranked([one, other])] == ["", ""]


def test_the_gravest_cause_is_named() -> None:
    first = finding("divergence", points=1.0, explains=("crosstalk", "poor_data"), everywhere=True)
    second = finding("poor_data", points=0.5, explains=("crosstalk",))
    found = ranked([finding("crosstalk"), second, first])
    assert {one.rule: one.because for one in found} == {
        "divergence": "",
        "poor_data": "divergence",
        "crosstalk": "divergence",
    }


def test_findings_round_trip_and_are_printed(tmp_path: Path) -> None:
    one = Finding(
        *("crosstalk", "qa is answered like [code]", Severity.high, ["62 % [of 50]."]),
        *(["data.tasks.qa.forbidden=[list]", "boundary=tagged"], ["qa"], 0.5, ("format_drift",)),
    )
    other = Finding("format_drift", "x", Severity.low, [], [], ["qa"], 0.1, because="crosstalk")
    save(tmp_path / "findings.json", [one, other], {"poor_data": "no rows"})
    assert load(tmp_path / "findings.json") == ([one, other], {"poor_data": "no rows"})
    out = StringIO()
    print_findings(Console(file=out, width=200), [one, other], {"a": "why", "b": "why"})
    assert out.getvalue().splitlines() == [
        "1. high qa is answered like [code] (crosstalk)",
        "   62 % [of 50].",
        "   try: 'data.tasks.qa.forbidden=[list]' boundary=tagged",
        "2. low x (format_drift, a consequence of crosstalk)",
        "not checked: a, b: why",
    ]


def test_nothing_found_is_said() -> None:
    out = StringIO()
    print_findings(Console(file=out), [], {})
    assert out.getvalue() == "diagnosis: nothing found\n"


def test_the_command_diagnoses_a_run_directory(tmp_path: Path) -> None:
    """A run directory on disk in, ``findings.json`` out; a folder that is none is refused."""
    run = MadeRun()
    run.scores["specialize"]["general"] = 0.2
    facts = run.facts(tmp_path)
    for name, value in (
        *(("config.yaml", facts.config), ("plan.json", facts.plan)),
        ("environment.json", {}),
    ):
        (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")  # JSON is YAML
    lines = [json.dumps(entry) + "\n" for entry in facts.steps]
    (tmp_path / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    for column, one in facts.evaluations.items():
        path = facts.directory.evaluation(column)
        path.write_text(json.dumps(asdict(one)), encoding="utf-8")
    done = _command(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1. high general ability is forgotten (general_forgetting)\n")
    findings, open_questions = load(tmp_path / "findings.json")
    assert [(one.rule, one.tasks) for one in findings] == [("general_forgetting", ["general"])]
    assert "poor_data" in open_questions
    wrong = _command(tmp_path / "phases")
    assert wrong.returncode == 2
    assert "a run directory is what launch/train.py writes" in wrong.stderr


def _command(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "launch/diagnose.py", str(folder)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
