"""The report of a sweep: figures worked out from the runs' own files."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
from scipy.stats import spearmanr

from data_modules.faults import DataFault
from launch.sweeps.command import draw_report
from tests.trainer.report.made_run import HOSTILE, made_run
from tests.trainer.report.parsed_page import ParsedPage
from trainer.report.sweep import read_sweep_facts, write_sweep_report
from trainer.report.sweep_effects import means, ranks, scales
from trainer.report.sweep_page import render_sweep
from trainer.sweep_record import AxisRecord, RunRecord, SweepRecord

LR, ORDER = "curriculum.phases.hard.lr", "curriculum.phases.hard.order"
NUMBERS = AxisRecord(LR, "lr", "number", [], 1e-5, 1e-3, True)
WORDS = AxisRecord(ORDER, "order", "choice", ["mixed", "grouped"])
SEEDS = AxisRecord("seed", "seed", "choice", ["0", "1"])


def mean_of(folder: Path) -> float:
    """The mean score of a made run's specialised tasks, from its own file."""
    found = json.loads((folder / "phases/hard/evaluation.json").read_text(encoding="utf-8"))
    return fmean(
        one["sets"]["ordinary"]["processed"]["exact_match"]["value"]
        for one in found["tasks"].values()
        if not one["general"]
    )


def add(
    folder: Path, sweep: SweepRecord, name: str, values: dict[str, str], **more: object
) -> None:
    """A run with figures; ``skill`` is added to its scores."""
    skill, seed = float(str(more.pop("skill", 0.0))), int(str(more.pop("seed", 0)))
    run = made_run(folder / "runs", 6, seed, name, skill, interference=False)
    (run / "report.html").write_text("made", encoding="utf-8")
    record = RunRecord(name, f"runs/{name}", values, [], "digest")
    for key, value in more.items():
        setattr(record, key, value)
    sweep.runs.append(record)
    sweep.write(folder)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Two values, two seeds each; one more run is not finished and one was never begun."""
    sweep = SweepRecord(
        "made", "grid", ["seed=0,1"], {}, [WORDS, SEEDS], {"mean": "maximize", "loss": "minimize"}
    )
    for order, skill in (("mixed", 0.0), ("grouped", 0.2)):
        for seed in (0, 1):
            values = {ORDER: order, "seed": str(seed)}
            add(tmp_path, sweep, f"order-{order}-seed{seed}", values, skill=skill, seed=seed)
    made_run(tmp_path / "runs", 6, 5, "half", interference=False)
    sweep.runs.append(RunRecord("half", "runs/half", {ORDER: "mixed", "seed": "5"}, [], "x"))
    sweep.runs.append(RunRecord("later", "runs/later", {ORDER: "mixed", "seed": "6"}, [], "x"))
    sweep.write(tmp_path)
    return tmp_path


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Seven trials; the third is the best, the last was left and the one before failed."""
    sweep = SweepRecord("found", "search", [], {}, [NUMBERS, WORDS], {"mean": "maximize"})
    add(tmp_path, sweep, "trial-000-default", {}, state="complete", is_default=True)
    for number, skill in enumerate((0.1, 0.3, -0.1, 0.2, 0.05), 1):
        values = {LR: f"{number}e-5", ORDER: "mixed" if number % 2 else "grouped"}
        add(tmp_path, sweep, f"trial-{number:03d}", values, skill=skill, state="complete")
    bad = {LR: "1e-3", ORDER: "mixed"}
    sweep.runs.append(RunRecord("trial-006", "runs/trial-006", bad, [], "x", state="failed"))
    add(tmp_path, sweep, "trial-007", bad, state="pruned", phase_ends=[0.125])
    return tmp_path


def test_seeds_of_one_configuration_are_one_point(grid: Path) -> None:
    facts = read_sweep_facts(grid)
    assert [one.name for one in facts.points] == ["order-grouped", "order-mixed"]
    assert [[run.seed for run in one.runs] for one in facts.points] == [[0, 1], [0, 1]]
    assert [axis.key for axis in facts.axes] == [ORDER]
    for point, order in zip(facts.points, ("grouped", "mixed"), strict=True):
        runs = [mean_of(grid / f"runs/order-{order}-seed{seed}") for seed in (0, 1)]
        assert point.figures["mean"].value == pytest.approx(fmean(runs))
        assert point.values == {ORDER: order}
    assert facts.unfinished == {"half": "not finished", "later": "not begun"}


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "phases/hard/evaluation.json"])
def test_a_damaged_run_is_left_out_and_said(
    grid: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = grid / "runs/order-mixed-seed1" / name
    assert draw_report(grid)
    capsys.readouterr()
    path.write_text("{\n", encoding="utf-8")
    facts = read_sweep_facts(grid)
    assert facts.unfinished["order-mixed-seed1"].startswith(f"{path}: it cannot be read")
    assert facts.damaged == ("order-mixed-seed1",)
    assert not draw_report(grid)
    out = capsys.readouterr().out
    assert f"DAMAGED, not in the report: {path}: it cannot be read" in out
    assert f"Without {path.parents[name.count('/')]} the same command" in out
    assert [len(one.runs) for one in facts.points] == [2, 1]


def test_a_run_without_evaluations_is_not_damaged(grid: Path) -> None:
    for path in (grid / "runs/order-mixed-seed1").rglob("evaluation.json"):
        path.unlink()
    facts = read_sweep_facts(grid)
    assert "no evaluation.json" in facts.unfinished["order-mixed-seed1"]
    assert facts.damaged == ()
    assert draw_report(grid)


def test_points_are_ranked_by_the_first_objective(search: Path) -> None:
    facts = read_sweep_facts(search)
    found = [one.figures["mean"].value for one in facts.points]
    assert found == sorted(found, reverse=True)
    assert len(found) == 6
    assert facts.points[0].name == "trial-002"
    assert facts.default is not None
    assert facts.default.name == "trial-000-default"
    assert facts.unfinished == {"trial-006": "failed", "trial-007": "left at a phase end at 0.1250"}
    assert facts.front == ()


def test_the_front_is_what_none_beats(grid: Path) -> None:
    facts = read_sweep_facts(grid)
    means = {one.name: one.figures["mean"].value for one in facts.points}
    losses = {one.name: one.figures["loss"].value for one in facts.points}
    best = max(means, key=lambda name: means[name])
    front = {best} | {name for name in losses if losses[name] < losses[best]}
    assert {one.name for one in facts.front} == front


def test_means_by_value(search: Path) -> None:
    facts = read_sweep_facts(search)
    found = means(facts, WORDS)
    assert found is not None
    assert (found.values, found.counts) == (("mixed", "grouped"), (3, 2))
    line = next(line for measure, line in found.lines if measure.key == "mean")
    of = {name: mean_of(search / f"runs/trial-00{name}") for name in range(1, 6)}
    assert line == pytest.approx((fmean(of[n] for n in (1, 3, 5)), fmean(of[n] for n in (2, 4))))
    assert means(facts, NUMBERS) is None


def test_rank_correlations(search: Path) -> None:
    facts = read_sweep_facts(search)
    found = ranks(facts, NUMBERS, facts.measure("mean"))
    assert found is not None
    of = [mean_of(search / f"runs/trial-00{number}") for number in range(1, 6)]
    assert found.value == pytest.approx(spearmanr(range(1, 6), of).statistic)
    assert not found.is_sure
    assert ranks(facts, WORDS, facts.measure("mean")) is None


def test_places_on_axes(search: Path) -> None:
    facts = read_sweep_facts(search)
    lr, order, goal = scales(facts)
    by_name = {one.name: place for place, one in enumerate(facts.points)}
    # the logarithm of 1e-5 to 1e-3 goes from 0 to 1
    assert lr.places[by_name["trial-001"]] == pytest.approx(0.0)
    assert lr.places[by_name["trial-002"]] == pytest.approx(0.150515)
    assert [text for _, text in lr.ticks] == ["1e-05", "0.0001", "0.001"]
    assert lr.places[by_name["trial-000-default"]] is None
    assert order.places[by_name["trial-002"]] == 1.0
    assert (goal.places[0], goal.places[-1]) == (1.0, 0.0)


def test_the_page_shows_the_figures_and_loads_nothing(search: Path) -> None:
    page = write_sweep_report(read_sweep_facts(search))
    assert page == search / "sweep.html"
    assert (search / "sweep.png").stat().st_size > 20_000
    parsed = ParsedPage(page.read_text(encoding="utf-8"))
    assert (parsed.loads, parsed.handlers) == ([], [])
    assert "script" not in parsed.tags
    best = f"{100 * mean_of(search / 'runs/trial-002'):.1f}"
    default = f"{100 * mean_of(search / 'runs/trial-000-default'):.1f}"
    glance = " ".join(parsed.sections["glance"].split())
    assert "6 of 8 trials of a search have figures" in glance
    assert f"The highest mean: {best} (" in glance
    assert f"the default has {default} (" in glance
    assert "Trial 0 has the default values" in parsed.sections["history"]
    assert best in parsed.sections["versus"]
    assert "left at a phase end at 0.1250" in parsed.sections["runs"]


def test_what_names_say_is_escaped(tmp_path: Path) -> None:
    sweep = SweepRecord(
        HOSTILE[0], "grid", [HOSTILE[1]], {}, [AxisRecord(ORDER, HOSTILE[2], "choice", [*HOSTILE])],
        {"mean": "maximize"},
    )  # fmt: skip
    for number, text in enumerate(HOSTILE[:4]):
        add(tmp_path, sweep, f"run{number}", {ORDER: text}, skill=number / 10)
    parsed = ParsedPage(render_sweep(read_sweep_facts(tmp_path)))
    assert (parsed.loads, parsed.handlers) == ([], [])
    assert not {"script", "img", "iframe", "a href"} & parsed.tags
    assert "<script>alert('owned')</script>" in parsed.text
    assert "\u202e" not in parsed.text
    assert write_sweep_report(read_sweep_facts(tmp_path)) is not None, "the picture takes them too"


def test_a_sweep_without_a_finished_run_has_no_report(tmp_path: Path) -> None:
    sweep = SweepRecord("made", "grid", [], {}, [WORDS], {"mean": "maximize"})
    sweep.runs.append(RunRecord("a", "runs/a", {ORDER: "mixed"}, [], "x"))
    sweep.write(tmp_path)
    assert write_sweep_report(read_sweep_facts(tmp_path)) is None
    with pytest.raises(DataFault, match=r"no sweep\.json"):
        read_sweep_facts(tmp_path / "runs")
