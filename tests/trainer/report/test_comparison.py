"""Runs side by side: figures worked out from the runs' own files."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from statistics import fmean, stdev

import pytest
import yaml
from rich.console import Console

from data_modules.faults import ConfigFault, DataFault
from tests.trainer.report.made_run import made_run
from tests.trainer.report.parsed_page import ParsedPage
from trainer.report import RunSummary, compare, print_comparison, summarise, write_comparison
from trainer.report.comparison_page import render_comparison
from trainer.report.comparison_table import difference_text, verdict
from trainer.run_facts import read_run


def summary(folder: Path, name: str, seed: int = 0, skill: float = 0.0) -> RunSummary:
    return summarise(read_run(made_run(folder, 10, seed, name, skill, interference=False)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunSummary]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        summary(folder, f"{name}-seed{seed}", seed, skill)
        for name, skill in (("mixed", 0.0), ("phases", 0.3))
        for seed in (0, 1, 2)
    ]


def test_a_summary_is_what_the_files_say(tmp_path: Path) -> None:
    root = made_run(tmp_path, name="one")
    found = summarise(read_run(root))
    values = json.loads((root / "phases/hard/evaluation.json").read_text(encoding="utf-8"))
    scores = {
        task: one["sets"]["ordinary"]["processed"]["exact_match"]["value"]
        for task, one in values["tasks"].items()
        if not one["general"]
    }
    figures = found.figures
    assert figures.mean is not None and figures.worst is not None and figures.spread is not None  # noqa: PT018
    assert figures.mean.value == pytest.approx(sum(scores.values()) / 10)
    assert figures.worst.value == min(scores.values())
    assert figures.spread.value == pytest.approx(max(scores.values()) - min(scores.values()))
    assert figures.crosstalk["conflict"].value == values["crosstalk"]["conflict"]["rate"]["value"]
    assert found.before is not None and found.before.general is not None  # noqa: PT018
    assert figures.general is not None
    assert (found.before.general.value, figures.general.value) == (0.9, 0.84)
    assert (found.column, found.steps, found.seed) == ("hard", 180, 0)


def test_rare_tasks_are_the_third_with_the_fewest_rows(tmp_path: Path) -> None:
    root = made_run(tmp_path, 6, name="one")
    plan = json.loads((root / "plan.json").read_text(encoding="utf-8"))
    counts = dict(zip(plan["phases"]["mix"]["tasks"], (40, 60, 60, 90, 200, 900, 5), strict=True))

    def rare(counts: dict[str, int]) -> tuple[str, ...]:
        for phase in plan["phases"].values():
            for task, use in phase["tasks"].items():
                use["available"] = counts[task]
        (root / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        return summarise(read_run(root)).rare_tasks

    # the second of six has 60 rows, and so has the third; the general task does not count
    assert rare(counts) == ("brainstorming", "chat", "classification")
    assert rare(dict.fromkeys(counts, 50)) == ()


def test_runs_that_differ_in_their_seed_are_one_group(runs: list[RunSummary]) -> None:
    found = compare(runs)
    assert [group.name for group in found.groups] == ["mixed", "phases"]
    assert [group.seeds for group in found.groups] == [(0, 1, 2), (0, 1, 2)]
    for group, members in zip(found.groups, (runs[:3], runs[3:]), strict=True):
        assert group.by == "run_name up to -seedN"
        means = [run.figures.mean.value for run in members if run.figures.mean]
        assert group.figures["mean"].value == pytest.approx(fmean(means))
        half = 4.302653 * stdev(means) / 3**0.5
        if half > 0.03:  # else the rows' own interval is the wider one
            assert group.figures["mean"].high == pytest.approx(fmean(means) + half, abs=1e-5)
    first, second = found.groups
    change = second.figures["mean"].value - first.figures["mean"].value
    assert second.differences["mean"].value == pytest.approx(change)
    assert first.differences == {}
    assert found.rare_tasks == runs[0].rare_tasks


def test_runs_of_other_names_belong_together_by_their_configuration(tmp_path: Path) -> None:
    found = compare(
        [summary(tmp_path, "a", 0), summary(tmp_path, "b", 1), summary(tmp_path, "c", 1)]
    )
    # c has the seed of b: it is no further seed of the same experiment
    assert [(group.name, group.seeds) for group in found.groups] == [("a", (0, 1)), ("c", (1,))]
    assert found.groups[0].by == "configuration up to seed"
    assert found.groups[1].by == "one run"


def test_runs_of_other_settings_stay_apart(tmp_path: Path) -> None:
    one = summary(tmp_path, "a", 0)
    root = made_run(tmp_path, name="b", seed=1)
    config = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
    config["global_batch_size"] = 64
    (root / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    assert len(compare([one, summarise(read_run(root))]).groups) == 2


def test_names_fit_the_groups(runs: list[RunSummary]) -> None:
    assert [group.name for group in compare(runs, ["x", "y"]).groups] == ["x", "y"]
    with pytest.raises(ConfigFault, match="3 names for 2 groups"):
        compare(runs, ["x", "y", "z"])


def test_a_measure_that_one_run_lacks_has_no_figure(runs: list[RunSummary], tmp_path: Path) -> None:
    root = made_run(tmp_path, 10, 3, "mixed-seed3")
    (root / "initial/evaluation.json").unlink()
    (group,) = compare([*runs[:3], summarise(read_run(root))]).groups
    assert {"general_before", "general_loss_before"} == set(group.missing)
    assert "general_after" in group.figures


def test_a_run_without_evaluation_is_refused(tmp_path: Path) -> None:
    root = made_run(tmp_path)
    for path in root.rglob("evaluation.json"):
        path.unlink()
    with pytest.raises(DataFault, match=r"no evaluation\.json"):
        summarise(read_run(root))


def test_the_terminal_table_has_value_interval_and_difference(runs: list[RunSummary]) -> None:
    found = compare(runs)
    out = io.StringIO()
    print_comparison(Console(file=out, width=120), found)
    lines = out.getvalue().splitlines()
    first, second = found.groups
    line = next(number for number, text in enumerate(lines) if text.strip().startswith("mean of"))
    figures = [group.figures["mean"] for group in (first, second)]
    for one in figures:
        assert f"{100 * one.value:.1f} ({100 * one.low:.0f}–{100 * one.high:.0f})" in lines[line]
    change = second.differences["mean"]
    assert f"{100 * change.value:+.1f}" in lines[line + 1]
    assert "mixed: 3 runs, seed 0, 1, 2 (together by run_name up to -seedN" in out.getvalue()
    assert all(len(text) <= 120 for text in lines)


def test_seven_groups_are_printed_in_two_tables_beside_the_first(tmp_path: Path) -> None:
    names = [f"run{letter}" for letter in "abcdefg"]
    summaries = []
    for number, name in enumerate(names):
        root = made_run(tmp_path, 3, 0, name, interference=False)
        config = (root / "config.yaml").read_text(encoding="utf-8")
        (root / "config.yaml").write_text(config + f"batch: {number}\n", encoding="utf-8")
        summaries.append(summarise(read_run(root)))
    out = io.StringIO()
    print_comparison(Console(file=out, width=120), compare(summaries))
    heads = [line.split() for line in out.getvalue().splitlines() if "runa" in line][:2]
    assert heads == [names[:6], ["runa", "rung"]]


def test_the_page_has_the_same_figures(runs: list[RunSummary], tmp_path: Path) -> None:
    found = compare(runs)
    path = write_comparison(found, tmp_path)
    page = ParsedPage(path.read_text(encoding="utf-8"))
    table = next(rows for rows in page.tables.values() if rows[1][0] == "mean of tasks")
    rows = {row[0]: row[1:] for row in table}
    first, second = found.groups
    for measure in found.measures:
        if measure.key.startswith("task/") or not measure.is_share:
            continue
        one, other = first.figures[measure.key], second.figures[measure.key]
        assert rows[measure.title][0].startswith(f"{100 * one.value:.1f} ({100 * one.low:.1f}–")
        assert rows[measure.title][1].startswith(f"{100 * other.value:.1f} ({100 * other.low:.1f}–")
        if measure.better:
            change = second.differences[measure.key]
            assert difference_text(change, measure) in rows[measure.title][1]
    assert page.loads == []
    assert page.handlers == []
    assert not page.tags & {"script", "link", "img"}
    assert (tmp_path / "comparison.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert render_comparison(found) == path.read_text(encoding="utf-8")


def test_names_in_the_comparison_are_only_text(runs: list[RunSummary], tmp_path: Path) -> None:
    found = compare(runs, ["<script>1</script>", "$\\frac{\u202e"])
    html = write_comparison(found, tmp_path).read_text(encoding="utf-8")
    assert "script" not in ParsedPage(html).tags
    assert re.search("&lt;script&gt;1", html)
    assert "\u202e" not in html


def test_better_and_worse_need_an_interval_without_zero(runs: list[RunSummary]) -> None:
    found = compare(runs)
    second = found.groups[1]
    for measure in found.measures:
        change = second.differences[measure.key]
        certain = change.low > 0 or change.high < 0
        expected = ""
        if certain and measure.better and measure.is_share:
            expected = "better" if (change.value > 0) == (measure.better > 0) else "worse"
        assert verdict(change, measure) == expected
    assert verdict(second.differences["mean"], found.measures[0]) == "better"
