"""How far a run is, read from its directory."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from data_modules.faults import DataFault
from trainer.progress import progress_of
from trainer.run_directory import write_json, write_json_lines
from trainer.watchdog.signs import Identity

PLAN = {
    "phases": {
        "mix": {"first_step": 1, "last_step": 40},
        "hard": {"first_step": 41, "last_step": 60},
    }
}


def step(number: int, phase: str, **more: Any) -> dict[str, Any]:
    """Two seconds each: 100 tokens at 50 a second."""
    return {"step": number, "phase": phase, "tokens": 100, "tokens_per_second": 50.0, **more}


def sign(root: Path, state: str, age: float = 0.0, words: str = "") -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(time.time() - age))
    identity = {"rank": 0, "host": "n1"}
    told = {"identity": identity, "state": state, "words": words, "place": "step 3", "time": moment}
    (root / "alive").mkdir(exist_ok=True)
    (root / "alive/rank_0.json").write_text(json.dumps(told), encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_json(tmp_path / "plan.json", PLAN)
    lines = [step(number, "mix", loss=5.0 - 0.1 * number) for number in range(1, 41)]
    lines += [{"step": 40, "phase": "mix", "eval/loss/qa": 3.0}, step(41, "hard", loss=0.75)]
    lines += [step(42, "hard", skipped=True)]
    write_json_lines(tmp_path / "metrics.jsonl", lines)
    return tmp_path


def test_step_phase_loss_and_time_left(run: Path) -> None:
    sign(run, "running")
    now = progress_of(run)
    assert (now.state, now.words) == ("running", "rank 0 on n1: step 3")
    assert (now.phase, now.step, now.last_step) == ("hard", 42, 60)
    assert (now.phase_step, now.phase_steps) == (2, 20)
    assert now.loss == 0.75  # that of the last step that changed the model
    assert now.seconds_left == pytest.approx(18 * 2.0)


def test_a_finished_run_has_nothing_left(run: Path) -> None:
    sign(run, "done")
    (run / "report.html").touch()
    now = progress_of(run)
    assert (now.state, now.seconds_left) == ("finished", 0.0)


def test_a_run_that_trains_again_is_not_finished(run: Path) -> None:
    sign(run, "running")
    (run / "report.html").touch()
    assert progress_of(run).state == "running"


def test_a_stopped_run_tells_why(run: Path) -> None:
    sign(run, "done")
    write_json(
        run / "stopped.json", {"why": "rank 0 got SIGUSR1", "reason": "SIGUSR1", "exit_code": 99}
    )
    assert progress_of(run).words == "rank 0 got SIGUSR1 (exit code 99)"
    assert progress_of(run).state == "stopped"


@pytest.mark.parametrize("state", ["failed", "lost"])
def test_a_failed_run_tells_its_words(run: Path, state: str) -> None:
    sign(run, state, words="it broke")
    now = progress_of(run)
    assert (now.state, now.words) == ("failed", "rank 0 on n1: it broke")


def test_a_run_that_fell_silent_does_not_run(run: Path) -> None:
    sign(run, "running", age=600)
    now = progress_of(run)
    assert now.state == "not running"
    assert now.words.startswith("rank 0 on n1 was last seen 60")


def test_before_the_first_step(tmp_path: Path) -> None:
    assert progress_of(tmp_path).state == "not started"
    sign(tmp_path, "running")
    now = progress_of(tmp_path)
    assert (now.state, now.phase, now.step, now.loss) == ("running", "", 0, None)


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="no such directory"):
        progress_of(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["plan.json", "alive/rank_0.json", "stopped.json"])
def test_a_damaged_file_hides_nothing_else(run: Path, name: str) -> None:
    sign(run, "running")
    (run / name).write_text("{", encoding="utf-8")
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 43, "pha')  # half written
    now = progress_of(run)
    assert (now.phase, now.step, now.loss) == ("hard", 42, 0.75)


DAMAGES = {
    "plan.json": '{"phases": []}',
    "alive/rank_0.json": '{"state": "failed"}',
    "metrics.jsonl": '{"tokens_per_second": 0, "step": 1, "tokens": 5}',
}


@pytest.mark.parametrize("name", DAMAGES)
def test_files_that_say_what_no_run_writes_are_told(run: Path, name: str) -> None:
    sign(run, "running")
    (run / name).write_text(DAMAGES[name], encoding="utf-8")
    now = progress_of(run)
    assert now.state == "damaged"
    assert re.match(r"(Key|Attribute)Error: ", now.words)


def test_a_process_that_is_gone_does_not_run(run: Path) -> None:
    """However new its sign of life is: kill -9 leaves it as it was."""
    sign(run, "running")
    told = json.loads((run / "alive/rank_0.json").read_text(encoding="utf-8"))
    here = asdict(Identity.of_this_process(0))
    for identity, state in ((here, "running"), (here | {"born": "1"}, "not running")):
        write_json(run / "alive/rank_0.json", told | {"identity": identity})
        assert progress_of(run).state == state
    assert progress_of(run).words.endswith("and its process is gone")
