"""A phase that picks its tasks by an evaluation: of the phase before in one run, or of a finished one."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from launching import composed, metrics_of, steps_of, train_under_torchrun
from rich.console import Console

from trainer import planning, preparing
from trainer.train import train

SPECIAL = (
    *("classification", "code", "extraction", "json", "math"),
    *("qa", "sorting", "style", "summarization", "translation"),
)
TARGETS = {"code": 0.9, "json": 0.8, "qa": 0.7, "math": 0.95}
HARD = "curriculum.phases.hard"
MIX_STEPS = 40  # after fewer, all answers are alike
BY = f"{HARD}.auto_hard.by"


def overrides(root: Path, name: str, *more: str) -> list[str]:
    """A few steps of a tiny model; chrF tells even poor answers apart."""
    return [
        *("model=bench_scratch", "precision=fp32", "cluster.threads_per_rank=1"),
        *("global_batch_size=16", "micro_batch_size=2", "data.max_seq_len=96"),
        f"data.root={root}/data",
        f"data.cache_dir={root}/cache",
        "data.benchmark.multiplier=0.5",
        "data.benchmark.general_rows=100",
        "data.benchmark.eval_rows=4",
        *(f"data.tasks.{task}.metric=chrf" for task in SPECIAL),
        *(f"data.tasks.{task}.target={target}" for task, target in TARGETS.items()),
        "evaluation.behaviours=false",
        "evaluation.soft_crosstalk_rows=0",
        "evaluation.bootstrap_samples=20",
        *("curriculum.phases.mix.epochs=null", f"curriculum.phases.mix.steps={MIX_STEPS}"),
        "curriculum.phases.mix.lr=3e-3",
        *("curriculum.phases.specialize.epochs=null", "curriculum.phases.specialize.steps=2"),
        *(
            "phase@curriculum.phases.hard=hard_auto",
            "balance@curriculum.phases.hard.balance=natural",
            f"{HARD}.auto_hard.most=3",
        ),
        f"output_dir={root}/{name}",
        *more,
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("auto_hard")


@pytest.fixture(scope="module")
def one_process(root: Path) -> Path:
    """Phase hard in the middle of a run; and behind a finished run of mix alone."""
    train(composed(overrides(root, "one", "+phase=[mix,hard,specialize]")))
    without = "~phase@curriculum.phases.specialize"
    train(composed(overrides(root, "behind", without, "+phase=mix")))
    train(composed(overrides(root, "behind", without, "+phase=hard")))
    return root


@pytest.fixture(scope="module")
def two_ranks(root: Path) -> Path:
    composed(overrides(root, "unused"))  # generates the data once
    both = "+phase=[mix,hard]"
    cases = [
        overrides(root, "two", "+phase=[mix,hard,specialize]"),
        overrides(root, "gap", both, f"{BY}=gap"),
        overrides(root, "fall", both, f"{BY}=loss_fall", "evaluation.generate=false"),
    ]
    train_under_torchrun(cases, 2, root)
    return root


def json_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def plan_of(run: Path) -> Any:
    return json_of(run / "plan.json")


def tasks_of(run: Path, column: str) -> dict[str, Any]:
    folder = run / "initial" if column == "initial" else run / "phases" / column
    return json_of(folder / "evaluation.json")["tasks"]


def scores_of(run: Path) -> dict[str, float]:
    """The specialised tasks' scores after phase mix, as the file has them."""
    tasks = tasks_of(run, "mix")
    return {task: tasks[task]["sets"]["ordinary"]["processed"]["chrf"]["value"] for task in SPECIAL}


def hardest(easiness: dict[str, float], most: int = 3) -> list[str]:
    return sorted(easiness, key=lambda task: (easiness[task], task))[:most]


@pytest.mark.parametrize(("fixture", "name"), [("one_process", "one"), ("two_ranks", "two")])
def test_the_tasks_are_the_lowest_of_the_phase_before(
    request: pytest.FixtureRequest, fixture: str, name: str
) -> None:
    run = request.getfixturevalue(fixture) / name
    scores = scores_of(run)
    assert len(set(scores.values())) > 3, "the scores of this run tell its tasks apart"
    plan = plan_of(run)
    said = plan["phases"]["hard"]["auto_hard"]
    assert said["picked"] == hardest(scores)
    assert said["figures"] == scores
    assert (said["by"], said["from"], said["most"]) == ("score", "mix", 3)
    assert "later" not in plan
    assert "auto_hard" not in plan["phases"]["mix"]
    # a quarter of the rows is the other tasks', and they are drawn alike; a third of 45 % is theirs
    shares = plan["phases"]["hard"]["asked_shares"]
    own = sum(shares[task] for task in said["picked"])
    assert own == pytest.approx(1 - 0.25 - 0.3, abs=0.01)
    others = [shares[task] for task in SPECIAL if task not in said["picked"]]
    assert others == pytest.approx([0.25 / 7] * 7, abs=0.002)
    trained = {
        task: entry[f"mixture/row_share/{task}"]
        for entry in metrics_of(run)
        for task in SPECIAL
        if entry["phase"] == "hard" and f"mixture/row_share/{task}" in entry
    }
    assert sorted(trained, key=lambda task: -trained[task])[:3] == unordered(
        said["picked"], trained
    )

    log = (run / "log/rank_0.log").read_text(encoding="utf-8")
    assert f"phase 'hard': tasks {said['words']}" in log
    for task in said["picked"]:
        assert f"{task} {scores[task]:.3f}" in said["words"]
    card = (run / "phases/hard/hf/README.md").read_text(encoding="utf-8")
    assert f"Tasks of `hard`: {said['words']}." in card
    assert f"| {', '.join(said['picked'])} |" in card


def unordered(picked: list[str], trained: dict[str, float]) -> list[str]:
    """The picked tasks in the order of their rows."""
    return sorted(picked, key=lambda task: (-trained[task], list(trained).index(task)))


@pytest.mark.parametrize(("fixture", "name"), [("one_process", "one"), ("two_ranks", "two")])
def test_later_phases_follow_on_the_step_axis(
    request: pytest.FixtureRequest, fixture: str, name: str
) -> None:
    run = request.getfixturevalue(fixture) / name
    phases = plan_of(run)["phases"]
    assert list(phases) == ["mix", "hard", "specialize"]
    stretches = [(one["first_step"], one["last_step"]) for one in phases.values()]
    start, end = MIX_STEPS, stretches[1][1]
    assert stretches == [(1, start), (start + 1, end), (end + 1, end + 2)]
    steps = steps_of(run)
    assert [entry["step"] for entry in steps] == list(range(1, end + 3))
    names = ["mix"] * start + ["hard"] * (end - start) + ["specialize"] * 2
    assert [entry["phase"] for entry in steps] == names
    # each ends at a tenth of its rate
    for (_, last), peak in zip(stretches, (3e-3, 1e-4, 1e-4), strict=True):
        assert steps[last - 1]["lr"] == pytest.approx(0.1 * peak, rel=1e-9)


def test_ranks_agree(one_process: Path, two_ranks: Path) -> None:
    alone, both = plan_of(one_process / "one")["phases"], plan_of(two_ranks / "two")["phases"]
    for phase in ("mix", "specialize"):
        assert alone[phase]["fingerprint"] == both[phase]["fingerprint"]
    # AdamW on sums in another order: the answers may differ, and with them the choice
    if alone["hard"]["auto_hard"]["picked"] == both["hard"]["auto_hard"]["picked"]:
        assert alone["hard"]["fingerprint"] == both["hard"]["fingerprint"]


def test_behind_a_finished_phase_it_is_the_same_choice_and_plan(one_process: Path) -> None:
    at_start, at_once = (
        plan_of(one_process / name)["phases"]["hard"] for name in ("one", "behind")
    )
    path = one_process / "behind/phases/mix/evaluation.json"
    assert at_once["auto_hard"]["from"] == str(path)
    for key in ("picked", "figures", "by", "most", "without"):
        assert at_once["auto_hard"][key] == at_start["auto_hard"][key]
    assert at_once["fingerprint"] == at_start["fingerprint"]
    assert (at_once["first_step"], at_once["last_step"]) == (
        at_start["first_step"],
        at_start["last_step"],
    )


def test_listing_the_picked_tasks_makes_the_same_plan(one_process: Path) -> None:
    entry = plan_of(one_process / "one")["phases"]["hard"]
    picked = ",".join(entry["auto_hard"]["picked"])
    listed = [f"{HARD}.tasks=[{picked}]", f"{HARD}.auto_hard.most=4"]  # 4 is the default
    listed += ["evaluation=none", "checkpoint=none"]
    train(composed(overrides(one_process, "listed", "+phase=[mix,hard]", *listed)))
    made = plan_of(one_process / "listed")["phases"]["hard"]
    assert made == {key: value for key, value in entry.items() if key != "auto_hard"}


def test_the_largest_gaps(two_ranks: Path) -> None:
    run = two_ranks / "gap"
    scores = scores_of(run)
    gaps = {task: target - scores[task] for task, target in TARGETS.items()}
    said = plan_of(run)["phases"]["hard"]["auto_hard"]
    assert said["picked"] == hardest({task: -gap for task, gap in gaps.items()})
    assert said["figures"] == pytest.approx(gaps)
    assert said["without"] == {task: "no target" for task in SPECIAL if task not in TARGETS}


def test_the_slowest_falls(two_ranks: Path) -> None:
    run = two_ranks / "fall"
    before, after = tasks_of(run, "initial"), tasks_of(run, "mix")
    falls = {task: 1 - after[task]["loss"] / before[task]["loss"] for task in SPECIAL}
    said = plan_of(run)["phases"]["hard"]["auto_hard"]
    assert said["picked"] == hardest(falls)
    assert said["figures"] == pytest.approx(falls)
    assert max(falls.values()) > 0.01


def test_plan_and_prepare_say_when_the_tasks_are_picked(
    one_process: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, str] = {}
    for name, module, command in (
        ("plan", planning, planning.show_plan),
        ("prepare", preparing, preparing.prepare),
        ("preview", preparing, preparing.preview),
    ):
        console = Console(width=250, record=True, file=StringIO())
        monkeypatch.setattr(module, "make_console", lambda console=console: console)
        command(composed(overrides(one_process, "plain", "+phase=[mix,hard,specialize]")))
        shown[name] = console.export_text()
    words = "picked at its start from the evaluation of phase 'mix', by score, at most 3"
    assert all(f"tasks {words}" in text for text in shown.values())
    (line,) = (line for line in shown["plan"].splitlines() if line.startswith("hard: "))
    assert line in shown["prepare"].splitlines()
    low, high = (int(part) for part in line.split()[1:4:2])
    hard = plan_of(one_process / "one")["phases"]["hard"]
    assert low < high
    assert low <= hard["last_step"] - hard["first_step"] + 1 <= high
    assert "specialize: 2 steps behind the phase before, 32 rows" in shown["plan"]
    assert f"{MIX_STEPS} and {low + 2} to {high + 2} later steps of 16 rows" in shown["plan"]
