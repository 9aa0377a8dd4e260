"""The run directory: paths, what a new run clears and keeps, whole files only."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from trainer.run_directory import (
    INITIAL,
    RunDirectory,
    environment,
    read_json,
    step_column,
    write_json,
    write_text,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A directory in which mix and hard were trained, with two checkpoints and four metrics."""
    made = RunDirectory(tmp_path / "outputs" / "one")
    for phase, last in (("mix", 2), ("hard", 4)):
        write_json(made.phase(phase) / "phase.json", {"phase": phase, "last_step": last})
        write_text(made.export(phase) / "config.json", "{}")
        write_text(made.checkpoints / f"step_{last:06d}" / "complete.json", "{}")
    write_text(made.evaluation(INITIAL), "{}")
    write_text(made.metrics, "".join(json.dumps({"step": n, "loss": n}) + "\n" for n in range(5)))
    return made


def files(run: RunDirectory) -> set[str]:
    return {str(path.relative_to(run.root)) for path in run.root.rglob("*") if path.is_file()}


def test_paths() -> None:
    run = RunDirectory(Path("outputs/one"))
    assert [str(path) for path in (run.metrics, run.evaluation(INITIAL), run.log(3))] == [
        "outputs/one/metrics.jsonl",
        "outputs/one/initial/evaluation.json",
        "outputs/one/log/rank_3.log",
    ]
    assert [str(path) for path in (run.export("mix"), run.evaluation("mix"))] == [
        "outputs/one/phases/mix/hf",
        "outputs/one/phases/mix/evaluation.json",
    ]


def test_a_fresh_run_clears_what_an_earlier_one_left(run: RunDirectory) -> None:
    write_text(run.root / "notes.txt", "mine")
    run.begin(["mix"], continuing=False)
    assert files(run) == {"notes.txt"}, "other people's files stay"


def test_a_continuing_run_clears_only_its_own_phases(run: RunDirectory) -> None:
    run.begin(["hard"], continuing=True)
    assert files(run) == {
        "phases/mix/phase.json",
        "phases/mix/hf/config.json",
        "checkpoints/step_000002/complete.json",
        "checkpoints/step_000004/complete.json",
        "initial/evaluation.json",
        "metrics.jsonl",
    }


def test_begin_makes_the_directory(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "a" / "b").begin(["mix"], continuing=False)
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(("step", "kept"), [(2, [0, 1, 2]), (9, [0, 1, 2, 3, 4]), (-1, [])])
def test_metrics_behind_the_start_are_dropped(
    run: RunDirectory, step: int, kept: list[int]
) -> None:
    run.cut_after(step)
    lines = run.metrics.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"step": n, "loss": n} for n in kept]


def test_dropping_metrics_that_are_not_there_makes_none(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.cut_after(3)
    assert not run.metrics.exists()


def test_a_cursor_takes_back_what_was_written_behind_it(run: RunDirectory) -> None:
    write_text(run.interference, '{"step": 1}\n')
    cursors = run.cursors()
    assert cursors == {"metrics.jsonl": 115, "interference.jsonl": 12}
    with run.metrics.open("a") as file:
        file.write('{"step": 5, "lo')  # the process was killed in the middle of a line
    for step in (4, 5):
        write_json(run.evaluation(step_column(step)), {})
    run.cut(cursors, 5)
    assert len(run.metrics.read_text()) == 115
    # The evaluation of the step itself is made again, as it came behind the checkpoint.
    assert [path.name for path in (run.root / "evaluations").iterdir()] == ["step_000004"]
    run.cut({"metrics.jsonl": 23}, 1)
    assert run.metrics.read_text() == '{"step": 0, "loss": 0}\n'[:23]
    assert run.interference.read_text() == ""


def test_measurements_of_another_run_are_taken_over(run: RunDirectory, tmp_path: Path) -> None:
    write_text(run.evaluation("mix"), "{}")
    write_text(run.evaluation(step_column(1)), "{}")
    other = RunDirectory(tmp_path / "other")
    other.begin(["hard"], continuing=True)
    other.inherit(run, ["mix"])
    assert files(other) == {
        "metrics.jsonl",
        "initial/evaluation.json",
        "evaluations/step_000001/evaluation.json",
        "phases/mix/phase.json",
        "phases/mix/evaluation.json",
    }


def test_finished_phases(run: RunDirectory) -> None:
    assert run.finished("hard") == {"phase": "hard", "last_step": 4}
    assert run.finished("none") is None


def test_files_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"name": "é", "values": [1, None]})
    assert read_json(path) == {"name": "é", "values": [1, None]}
    assert "é" in path.read_text(encoding="utf-8")

    # Killed between writing and renaming: readers still see the old file.
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"name": "half"})
    assert read_json(path)["name"] == "é"


def test_the_environment_says_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["launch/train.py", "seed=1"])
    got = environment(world_size=4)
    assert got["command"] == ["launch/train.py", "seed=1"]
    assert got["world_size"] == 4
    assert got["packages"]["torch"] == torch.__version__
    assert got["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert (got["gpu"] is None) == (not torch.cuda.is_available())
    json.dumps(got)


def test_gradient_conflict_is_kept_as_metrics_are(run: RunDirectory) -> None:
    write_text(run.interference, "".join(f'{{"step": {step}}}\n' for step in range(5)))
    run.begin(["hard"], continuing=True)
    run.cut_after(2)
    assert run.interference.read_text(encoding="utf-8") == '{"step": 0}\n{"step": 1}\n{"step": 2}\n'
    run.begin(["mix"], continuing=False)
    assert not run.interference.exists()


def test_evaluations_between_phases_behind_a_step_go(run: RunDirectory) -> None:
    for step in (3, 4, 1_000_000):
        write_json(run.evaluation(step_column(step)), {})
    run.cut_after(3)
    assert [path.name for path in (run.root / "evaluations").iterdir()] == ["step_000003"]
