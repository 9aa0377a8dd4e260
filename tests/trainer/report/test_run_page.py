"""The report of a run: its figures are the run's, and nothing in it can do anything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.trainer.report.made_run import GENERAL, HOSTILE, PHASES, SETS, made_run, task_names
from tests.trainer.report.parsed_page import ParsedPage
from trainer.diagnosis import Finding, Severity
from trainer.report import render_report, write_report
from trainer.report.headline import headline
from trainer.run_directory import INITIAL
from trainer.run_facts import RunFacts, read_run


def finding(rule: str, title: str, evidence: str, override: str, because: str = "") -> Finding:
    return Finding(rule, title, Severity.high, [evidence], [override], ["qa"], 0.1, because=because)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return read_run(made_run(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def page(facts: RunFacts) -> ParsedPage:
    return ParsedPage(render_report(facts, [], {}))


def tile(page: ParsedPage, label: str) -> str:
    """What stands in a tile before its label."""
    found = re.search(rf"\n([^\n]*){re.escape(label)}\n", page.sections["glance"])
    assert found, f"no tile '{label}'"
    return found[1]


def test_the_headline_is_never_the_mean_alone(facts: RunFacts, page: ParsedPage) -> None:
    assert facts.last is not None
    scores = {task: one.score.value for task, one in facts.last.special.items() if one.score}
    worst, best = (min(scores, key=scores.__getitem__), max(scores, key=scores.__getitem__))
    assert tile(page, "mean of tasks").startswith(f"{100 * sum(scores.values()) / 10:.1f} %")
    assert tile(page, f"worst task: {worst}").startswith(f"{100 * scores[worst]:.1f} %")
    assert tile(page, f"best task: {best}").startswith(f"{100 * scores[best]:.1f} %")
    spread = 100 * (scores[best] - scores[worst])
    assert tile(page, "spread, best − worst").startswith(f"{spread:.1f} %")
    for name in SETS:
        rate = facts.last.crosstalk[name].rate
        expected = f"{100 * rate.value:.1f} %{100 * rate.low:.1f}–{100 * rate.high:.1f}"
        assert tile(page, f"crosstalk, {name}") == expected
    assert tile(page, "general ability, before → after").startswith("90.0 → 84.0 %")
    assert f"{100 * scores[worst]:.1f} ({worst})" in page.sections["glance"]


def test_scores_through_the_phases_are_those_of_the_evaluations(
    facts: RunFacts, page: ParsedPage
) -> None:
    rows = page.rows("scores by task and phase")
    assert rows["task"][:-1] == [INITIAL, *PHASES]
    for task in task_names(10):
        figures = [one.tasks[task].score for one in facts.evaluations.values()]
        assert rows[task][:-1] == [f"{100 * one.value:.1f}" for one in figures if one]
        last = figures[-1]
        assert last is not None
        assert rows[task][-1] == f"{100 * last.low:.1f}–{100 * last.high:.1f}"
    heads = [headline(one) for one in facts.evaluations.values()]
    for name, figures in (
        ("mean of tasks", [one.mean for one in heads]),
        ("worst task", [one.worst for one in heads]),
        ("spread", [one.spread for one in heads]),
    ):
        assert rows[name][:-1] == [f"{100 * one.value:.1f}" for one in figures if one]


def test_every_crosstalk_matrix_is_there_with_general_mixed_and_none(
    facts: RunFacts, page: ParsedPage
) -> None:
    assert facts.last is not None
    for name in SETS:
        found = facts.last.crosstalk[name]
        rows = page.rows(f"behaviour of answers, prompt set {name}")
        assert rows["asked"] == [*task_names(10), GENERAL, "mixed", "none"]
        for task, line in zip(found.tasks, found.matrix, strict=True):
            assert rows[task] == [f"{100 * share:.1f}" if share else "·" for share in line]
        routing = page.rows(f"routing and skill, prompt set {name}")
        for task, share in found.routing.items():
            assert routing[task][1] == f"{100 * share:.1f}"


def test_the_largest_leak_stands_first(facts: RunFacts, page: ParsedPage) -> None:
    assert facts.last is not None
    largest = max(
        (share, name, task, label)
        for name, one in facts.last.crosstalk.items()
        for task, line in zip(one.tasks, one.matrix, strict=True)
        for label, share in zip(one.labels, line, strict=True)
        if label not in (task, "mixed", "none") and task != GENERAL
    )
    table = next(rows for rows in page.tables.values() if rows[0][:2] == ["asked", "shown"])
    assert float(table[1][3]) == pytest.approx(100 * largest[0], abs=0.05)


def test_the_mixture_is_what_the_phases_trained_on(facts: RunFacts, page: ParsedPage) -> None:
    entry = next(one for one in facts.other_metrics if "mixture/row_share/qa" in one)
    shares = [
        entry[f"mixture/{kind}/qa"] for kind in ("asked_row_share", "row_share", "token_share")
    ]
    assert f"qa{' · '.join(f'{share:.1%}' for share in shares)}" in page.sections["mixture"]


def test_findings_come_with_evidence_and_overrides(facts: RunFacts) -> None:
    found = finding("over_listing", "qa lists", "`qa`: 12 of 150", "a.b=2", because="imbalance")
    page = ParsedPage(render_report(facts, [found], {"format_drift": "no answers were kept"}))
    for text in ("over_listing", "qa lists", "high", "qa: 12 of 150", "a.b=2"):
        assert text in page.sections["findings"]
    assert "a consequence of imbalance" in page.sections["findings"]
    assert "format_drift: no answers were kept" in page.sections["gaps"]
    assert "found nothing" in ParsedPage(render_report(facts, [], {})).sections["findings"]
    undiagnosed = ParsedPage(render_report(facts, None, {}))
    assert "not diagnosed" in undiagnosed.sections["findings"]
    assert "launch/diagnose.py" in undiagnosed.sections["gaps"]


def test_every_link_of_the_page_leads_somewhere(facts: RunFacts) -> None:
    html = render_report(facts, [], {})
    targets = re.findall(r'href="#([^"]*)"', html)
    assert len(targets) > 10
    assert set(targets) <= set(ParsedPage(html).ids)


@pytest.mark.parametrize("tasks", [10, 50])
def test_the_page_stands_alone(tmp_path: Path, tasks: int) -> None:
    html = render_report(read_run(made_run(tmp_path, tasks)), [], {})
    page = ParsedPage(html)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert page.loads == []
    assert page.handlers == []
    assert "url(" not in html
    assert "@import" not in html
    assert page.open == []
    assert "default-src 'none'" in html
    # all tasks are in the tables that have a row for each
    for table in (
        "scores by task and phase",
        "change by task and phase",
        "answers in format by task",
    ):
        assert set(task_names(tasks)) <= set(page.rows(table))


def test_hostile_answers_and_names_are_only_text(tmp_path: Path) -> None:
    names = [*task_names(3), "<img src=x onerror=alert(1)>", 'a"onmouseover="alert(2)', "x\u202ey"]
    facts = read_run(made_run(tmp_path, names, answers=HOSTILE, name="<script>run"))
    found = finding("<i>r</i>", "<u>t</u>", "<q>e</q>", "<s>o")
    html = render_report(facts, [found], {"<q>": "<s>"})
    page = ParsedPage(html)
    assert not page.tags & {"script", "img", "iframe", "s", "q"}
    assert page.handlers == []
    assert page.loads == []
    assert page.open == []
    assert not any(character in html for character in ("\u202e", "\u200b", "\x1b"))
    assert "⟨U+202E⟩" in html
    assert "&lt;script&gt;alert(" in html
    assert html.count("display:none") == html.count("body{display:none}")
    assert "{{ 7 * 7 }}" in page.text
    assert "A" * 701 not in html
    assert "of 30,000 characters]" in page.text
    for table in ("scores by task and phase", "gradient cosines of tasks"):
        assert "<img src=x onerror=alert(1)>" in page.rows(table)


def test_the_same_run_gives_the_same_page_and_pictures(tmp_path: Path) -> None:
    facts = read_run(made_run(tmp_path))
    page = write_report(facts, [], {})
    files = [page, *(facts.directory.root / "charts").iterdir()]
    first = {path: path.read_bytes() for path in files}
    assert len(first) == 5
    write_report(read_run(facts.directory.root), [], {})
    assert {path: path.read_bytes() for path in files} == first


def test_answers_show_right_wrong_leaking_and_cut_ones(facts: RunFacts, page: ParsedPage) -> None:
    assert "qa right, wrong, leak, leak, cut" in " ".join(page.sections["samples"].split())
    kept = facts.predictions(PHASES[-1], "ordinary", "qa")
    leak = next(one for one in kept if one["behaviour"] != "qa")
    assert leak["answer"] in page.sections["samples"]


def test_hard_tasks_and_settings_are_told(facts: RunFacts, page: ParsedPage) -> None:
    assert "brainstorming, chat: largest gap to the target" in page.text
    assert "run_name: made" in page.sections["settings"]
    assert "torch 2.11.0" in page.sections["settings"]
    assert f"{facts.plan['phases']['mix']['first_step']:,}–" in page.sections["plan"]


@pytest.fixture
def bare(tmp_path: Path) -> RunFacts:
    """A run without answers, behaviours, gradients or an evaluation before training."""
    root = made_run(tmp_path, interference=False)
    for column in (INITIAL, *PHASES[:2]):
        folder = root / INITIAL if column == INITIAL else root / "phases" / column
        (folder / "evaluation.json").unlink()
    path = root / "phases" / PHASES[2] / "evaluation.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for one in values["tasks"].values():
        one |= {"sets": {}, "metric": ""}
    path.write_text(json.dumps({**values, "crosstalk": {}, "soft_crosstalk": {}}), encoding="utf-8")
    return read_run(root)


def test_what_was_not_measured_is_said_in_its_place_and_in_the_list(bare: RunFacts) -> None:
    page = ParsedPage(render_report(bare, None, {}))
    for section in ("scores", "crosstalk", "soft", "format", "forgetting", "conflict", "samples"):
        assert "Not measured" in page.sections[section], section
    listed = page.sections["gaps"]
    for title in ("Findings", "Scores", "Crosstalk", "Soft crosstalk", "Format", "Forgetting"):
        assert f"{title}:" in listed
    assert "evaluation loss of tasks, nats" in page.sections["glance"]
    assert page.rows("evaluation loss by task and phase")["task"] == [PHASES[2]]


def test_a_run_without_any_evaluation_or_step_has_a_page(bare: RunFacts) -> None:
    (bare.directory.root / "phases" / PHASES[2] / "evaluation.json").unlink()
    bare.directory.metrics.write_text("", encoding="utf-8")
    facts = read_run(bare.directory.root)
    write_report(facts, None, {})
    page = ParsedPage(render_report(facts, None, {}))
    assert "no evaluation yet" in page.sections["glance"]
    assert "no step was trained yet" in page.sections["curves"]
    assert [path.name for path in (facts.directory.root / "charts").iterdir()] == ["mixture.png"]
