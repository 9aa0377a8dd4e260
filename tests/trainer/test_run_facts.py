"""Which evaluations in a run directory are those of its newest run."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.faults import DataFault
from tests.shared_evaluation import evaluation
from trainer.evaluation.results import save
from trainer.run_directory import INITIAL, RunDirectory, write_json, write_text
from trainer.run_facts import read_run

NAMES = ("mix", "specialize", "hard")


def made(root: Path, planned: list[str], later: list[str], judged: tuple[str, ...]) -> RunDirectory:
    run = RunDirectory(root)
    phases = "".join(f"    {name}: {{}}\n" for name in NAMES)
    write_text(root / "config.yaml", f"curriculum:\n  phases:\n{phases}")
    plan = {"phases": dict.fromkeys(planned, 1), "later": dict.fromkeys(later, 1)}
    write_json(root / "plan.json", plan)
    write_json(root / "environment.json", {})
    write_text(run.metrics, '{"step": 1, "loss": 2.0}\n{"step": 1, "eval/loss/qa": 1.0}\n')
    for number, name in enumerate(judged):
        save(run.evaluation(name), evaluation(qa=number / 10))
    return run


@pytest.mark.parametrize(
    ("planned", "later", "expected"),
    [
        (["mix", "specialize", "hard"], [], [INITIAL, "mix", "specialize", "hard"]),
        # training order, not that of the file
        (["hard", "mix"], [], [INITIAL, "specialize", "hard", "mix"]),
        # behind mix; hard is of an earlier run
        (["specialize"], [], [INITIAL, "mix", "specialize"]),
        (["mix"], ["hard"], [INITIAL, "mix", "hard"]),
        ([], ["specialize"], [INITIAL, "mix", "specialize"]),
    ],
)
def test_columns_are_in_training_order(
    tmp_path: Path, planned: list[str], later: list[str], expected: list[str]
) -> None:
    made(tmp_path, planned, later, (INITIAL, *NAMES))
    facts = read_run(tmp_path)
    assert list(facts.evaluations) == expected
    assert facts.last == facts.evaluations[expected[-1]]
    assert [one["loss"] for one in facts.steps] == [2.0]
    assert [one["eval/loss/qa"] for one in facts.other_metrics] == [1.0]


def test_what_is_no_run_is_a_fault(tmp_path: Path) -> None:
    made(tmp_path, ["mix"], [], ())
    assert read_run(tmp_path).last is None
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(DataFault) as caught:
        read_run(tmp_path)
    assert caught.value.faults[0].seen == "no metrics.jsonl"


DAMAGES = {
    "config.yaml": ("curriculum: [", "ParserError"),
    "plan.json": ("", "JSONDecodeError"),
    "environment.json": ("{", "JSONDecodeError"),
    "metrics.jsonl": ('{"step": 1}\n{"step": 2, "loss": "abc"}\n', "line 2: step 2, loss 'abc'"),
    "phases/mix/evaluation.json": ('{"tasks": {"qa": {}}}', "KeyError"),
    "faults.jsonl": ("\x00\n", "line 1: "),
}


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [(name, *damage) for name, damage in DAMAGES.items()]
    + [("plan.json", '{"phases": {}}', "no phases"), ("plan.json", '{"phases": 3}', "TypeError")],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str, kind: str) -> None:
    made(tmp_path, ["mix"], [], (INITIAL, "mix"))
    read_run(tmp_path)
    write_text(tmp_path / name, text)
    with pytest.raises(DataFault) as caught:
        read_run(tmp_path)
    (fault,) = caught.value.faults
    assert fault.where == str(tmp_path / name)
    assert kind in fault.seen


def test_a_plan_of_other_phases_is_told(tmp_path: Path) -> None:
    made(tmp_path, ["mix"], [], (INITIAL, "mix"))
    write_text(tmp_path / "config.yaml", "curriculum:\n  phases: {}\n")
    with pytest.raises(DataFault, match=r"its phases are none; plan\.json beside it has mix"):
        read_run(tmp_path)
