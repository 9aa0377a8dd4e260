"""What slurm/train.sbatch does with each end of a run, on a real SLURM, with a stand-in for Python.

The stand-in takes the places of ``where.py`` and ``node.py``: it runs what the case's file for the turn
says. That a real training ends with these codes is for the tests beside this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from slurm_cluster import REPOSITORY, SlurmCluster

pytestmark = pytest.mark.cluster

_STAND_IN = """#!/bin/bash
run=${!#}
name=$(basename "$1" .py)
[[ $name = node ]] || echo "$run"
turn=$run/${name}_${SLURM_RESTART_COUNT:-0}.sh
[[ ! -f $turn ]] || . "$turn"
"""
_WAITS = "trap 'exit 99' {signal}; touch $run/waits; sleep 100 & wait"
_ASKS = "scancel --batch --signal=USR1 $SLURM_JOB_ID"


@dataclass(frozen=True)
class Case:
    """A job.

    Attributes:
        turns: what ``where.py`` and ``node.py`` do, by name and turn; nothing, and end with 0, if not said.
        files: of the run directory, before the job.
        ends: its state, exit code and how often it came back.
    """

    name: str
    turns: Mapping[str, str]
    ends: tuple[str, str, str]
    retries: int = 0
    files: Mapping[str, str] = field(default_factory=dict)


FINISHED = ("COMPLETED", "0:0", "0")
CAME_BACK = ("COMPLETED", "0:0", "1")
CASES = (
    Case("finished", {}, FINISHED),
    Case("users_fault", {"node_0": "exit 2"}, ("FAILED", "2:0", "0"), retries=5),
    Case("bad_steps", {"node_0": "exit 3"}, ("FAILED", "3:0", "0"), retries=5),
    Case("stopped_by_hand", {"node_0": "exit 98"}, ("FAILED", "98:0", "0"), retries=5),
    Case("preempted", {"node_0": "exit 99"}, CAME_BACK),
    Case("before_it_hears_term", {"node_0": "kill -TERM $$"}, CAME_BACK),
    Case("before_it_hears_usr1", {"node_0": "kill -USR1 $$"}, CAME_BACK),
    Case("lost", {"node_0": "exit 4"}, ("FAILED", "4:0", "0")),
    Case("lost_once", {"node_0": "exit 4"}, CAME_BACK, retries=1),
    Case("lost_twice", {"node_0": "exit 4", "node_1": "exit 1"}, ("FAILED", "1:0", "1"), retries=1),
    Case("killed_rank", {"node_0": "exit 137"}, CAME_BACK, retries=1),
    Case(
        "hidden_code",
        {"node_0": "sleep 0.1; echo '{\"exit_code\": 99}' >$run/stopped.json; exit 247"},
        CAME_BACK,
    ),
    Case(
        "code_of_an_earlier_run",
        {"node_0": "exit 2"},
        ("FAILED", "2:0", "0"),
        files={"stopped.json": '{"exit_code": 99}'},
    ),
    Case("fault_of_composing", {"where_0": "exit 2"}, ("FAILED", "2:0", "0"), retries=5),
    Case("asked_while_composing", {"where_0": f"{_ASKS}; sleep 1"}, CAME_BACK),
    Case("ended_while_composing", {"where_0": "kill -TERM $$"}, CAME_BACK),
    Case(
        "asked",
        {"node_0": f"{_ASKS} & {_WAITS.format(signal='USR1')}", "node_1": "[[ ! -e $run/STOP ]]"},
        CAME_BACK,
    ),
    Case(
        "asked_by_an_earlier_turn",
        {"node_0": "[[ ! -e $run/STOP ]]"},
        FINISHED,
        files={"STOP": "requeue\n"},
    ),
    Case("stopped_before", {"node_0": "[[ -e $run/STOP ]]"}, FINISHED, files={"STOP": ""}),
)


class Jobs:
    """Submits train.sbatch with the stand-in."""

    def __init__(self, slurm: SlurmCluster, folder: Path) -> None:
        self.slurm, self.folder = slurm, folder
        self.stand_in = folder / "python"
        self.stand_in.write_text(_STAND_IN, encoding="utf-8")
        self.stand_in.chmod(0o755)

    def run_of(self, case: Case) -> Path:
        """Its run directory, made."""
        run = self.folder / case.name
        run.mkdir()
        for name, text in case.turns.items():
            (run / f"{name}.sh").write_text(text + "\n", encoding="utf-8")
        for name, text in case.files.items():
            (run / name).write_text(text, encoding="utf-8")
        return run

    def submit(self, *arguments: str, retries: int = 0, more: str = "") -> int:
        """Submit one job or array."""
        variables = f"ALL,POLYPHASE_PYTHON={self.stand_in},POLYPHASE_RETRIES={retries}"
        return self.slurm.sbatch(
            f"--export={variables}{more}",
            f"--output={self.folder}/%x_%a_%j.out",
            *arguments[:-1],
            str(REPOSITORY / "slurm/train.sbatch"),
            arguments[-1],
        )


@pytest.fixture
def jobs(slurm: SlurmCluster, tmp_path: Path) -> Jobs:
    return Jobs(slurm, tmp_path)


def end_of(slurm: SlurmCluster, job: str) -> tuple[str, str, str]:
    ended = slurm.wait_for(job)
    return ended["JobState"], ended["ExitCode"], ended["Restarts"]


def test_which_ends_bring_a_job_back(slurm: SlurmCluster, jobs: Jobs) -> None:
    """All at once: a requeued job waits for six seconds."""
    numbers = {
        case.name: jobs.submit(
            f"--job-name={case.name}", str(jobs.run_of(case)), retries=case.retries
        )
        for case in CASES
    }
    ends = {name: end_of(slurm, str(job)) for name, job in numbers.items()}
    assert ends == {case.name: case.ends for case in CASES}
    assert not list(jobs.folder.glob("*/slurm/started-*"))


def test_a_cancelled_job_stays_away(slurm: SlurmCluster, jobs: Jobs) -> None:
    for place in ("node_0", "where_0"):
        run = jobs.run_of(Case(place, {place: _WAITS.format(signal="TERM")}, FINISHED))
        job = str(jobs.submit(str(run), retries=5))
        slurm.wait_until_there(run / "waits", job)
        slurm.run("scancel", job)
        assert end_of(slurm, job)[::2] == ("CANCELLED", "0")
        assert not (run / "STOP").exists(), "the next job of this run is not to stop"


def test_a_task_of_an_array_comes_back_alone(slurm: SlurmCluster, jobs: Jobs) -> None:
    """Its last task has the array's own number: asked for by that, SLURM means all."""
    arguments = jobs.folder / "arguments"
    arguments.mkdir()
    for task in range(3):
        run = jobs.run_of(Case(f"task{task}", {"node_0": f"exit {99 * (task == 2)}"}, FINISHED))
        (arguments / f"{task}.args").write_text(f"first\0{run}\0", encoding="utf-8")
    given = ("--array=0-3", "seed=1")
    array = jobs.submit(*given, more=f",POLYPHASE_ARGUMENTS={arguments}")
    ends = [end_of(slurm, f"{array}_{task}") for task in range(4)]
    # a task without arguments must not train the default configuration
    assert ends == [FINISHED, FINISHED, CAME_BACK, ("FAILED", "2:0", "0")]
    told = [jobs.folder / f"task{task}/slurm/ended-{array}_{task}" for task in range(3)]
    assert [one.read_text("utf-8") for one in told] == ["0\n"] * 3


def test_what_is_printed_ahead_is_no_run_directory(slurm: SlurmCluster, jobs: Jobs) -> None:
    run = jobs.run_of(Case("chatty", {"node_0": "exit 3"}, FINISHED))
    job = jobs.submit(str(run), more=",POLYPHASE_SETUP=echo loading cuda")
    assert end_of(slurm, str(job)) == ("FAILED", "3:0", "0")
    assert (run / f"slurm/ended-{job}").read_text("utf-8") == "3\n"


def test_a_job_behind_another_waits_until_that_has_come_back(
    slurm: SlurmCluster, jobs: Jobs
) -> None:
    first = jobs.run_of(
        Case("first", {"node_0": "exit 99", "node_1": "touch $run/well"}, CAME_BACK)
    )
    behind = f"[[ -e {first}/well ]]"
    second = jobs.run_of(Case("second", {"node_0": behind}, FINISHED))
    before = jobs.submit(str(first))
    after = jobs.submit(f"--dependency=afterok:{before}", "--kill-on-invalid-dep=yes", str(second))
    assert end_of(slurm, str(before)) == CAME_BACK
    assert end_of(slurm, str(after)) == FINISHED
