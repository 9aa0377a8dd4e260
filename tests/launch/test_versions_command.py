"""``launch/versions.py`` around the runs: arguments, what is kept, what fails, how many rows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from launch import versions
from launch.composing import addable, prepare_root
from launch.versions import VERSIONS, VersionRun, arguments, main
from tests.shared_data import REPOSITORY
from trainer.config.strict_merge import to_config
from trainer.report.versions import LOG
from trainer.train import make_data


def test_overrides_may_follow_any_option() -> None:
    known, overrides = arguments(
        [
            "--only",
            "v0_2",
            "v0_3",
            "evaluation.rows_per_task=50",
            "--seeds",
            "0",
            "1",
            "zero.stage=0",
        ]
    )
    assert (known.only, known.seeds) == (["v0_2", "v0_3"], [0, 1])
    assert overrides == ["evaluation.rows_per_task=50", "zero.stage=0"]
    assert arguments([])[0].only == list(VERSIONS)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--only", "v9"], "invalid choice: 'v9'"),
        (["--seed", "x"], "invalid int value: 'x'"),
        (["steps"], "unrecognized arguments: steps"),
        (["--fast=1"], "unrecognized arguments: --fast=1"),
    ],
)
def test_wrong_arguments_are_named(
    given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        arguments(given)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


class Runs:
    """Stands for the runs that would be started; writes what a run leaves."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.compared: list[str] = []
        self.codes: dict[str, int] = {}

    def __call__(self, command: list[str], **_: Any) -> Any:
        given = dict(one.split("=", 1) for one in command[2:])
        folder, name = Path(given["output_dir"]), given["run_name"]
        assert not (folder / "report.html").exists(), "a page of an earlier run"
        self.started.append(name)
        code = self.codes.get(name, 0)
        if not code:
            made = {"command": ["train.py", *(f"++{one}" for one in command[2:])]}
            (folder / "environment.json").write_text(json.dumps(made), encoding="utf-8")
            (folder / "report.html").touch()
        return subprocess.CompletedProcess(command, code)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(versions.subprocess, "run", made)
    monkeypatch.setattr(
        "trainer.report.versions.compare_versions",
        lambda folders, _: made.compared.extend(one.name for one in folders),
    )
    return made


def test_finished_runs_are_kept_and_failed_ones_made_again(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--only", "v0_1", "v0_2", "--output", str(tmp_path), "--at-once", "1", "zero.stage=0"]
    runs.codes["v0_2-seed0"] = 3
    assert main(given) == 1
    out = capsys.readouterr().out
    assert "v0_1-seed0: done, " in out
    assert f"v0_2-seed0: FAILED with exit code 3, see {tmp_path}/v0_2-seed0.log" in out
    assert runs.compared == ["v0_1-seed0"]
    runs.codes.clear()
    assert main(given) == 0
    assert "v0_1-seed0: finished before, kept" in capsys.readouterr().out
    assert runs.started == ["v0_1-seed0", "v0_2-seed0", "v0_2-seed0"]
    assert runs.compared[1:] == ["v0_1-seed0", "v0_2-seed0"]
    runs.codes["v0_1-seed0"] = 1
    runs.compared.clear()
    assert main([*given, "--again"]) == 1
    assert runs.compared == ["v0_2-seed0"], "the page of the earlier run does not count"


def test_a_kept_run_must_be_the_one_asked_for(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--only", "v0_1", "--output", str(tmp_path)]
    assert main([*given, "evaluation.rows_per_task=2"]) == 0
    assert main(given) == 2
    assert "v0_1-seed0 was made with other overrides: " in (error := capsys.readouterr().err)
    assert "evaluation.rows_per_task=2" in error
    assert runs.started == ["v0_1-seed0"]
    assert main([*given, "--again"]) == 0
    assert main(given) == 0
    assert runs.started == ["v0_1-seed0"] * 2


def test_every_seed_of_every_version_is_a_run(runs: Runs, tmp_path: Path) -> None:
    assert main(["--seeds", "3", "1", "--output", str(tmp_path), "--at-once", "1"]) == 0
    assert runs.started == [f"{version}-seed{seed}" for seed in (3, 1) for version in VERSIONS]


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("versions")


@pytest.mark.parametrize(
    ("version", "rows"),
    [
        ("v0_1", 1200),
        ("v0_2", 1300),
        ("v0_3", 1300),
        ("v1_0", 1700),
        ("v1_0_control", 1700),
        ("v1_1", 1685),
    ],
)
def test_an_epoch_has_the_rows_of_the_log(shared_root: Path, version: str, rows: int) -> None:
    run = VersionRun(version, 0, shared_root / "run")
    places = [f"data.root={shared_root}/data", f"data.cache_dir={shared_root}/cache"]
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = to_config(compose("train", addable([*run.command(places), "data.workers=1"])))
    prepare_root(config)
    data = make_data(config, None)
    data.prepare()
    data.load()
    plan = data.plans["mix"]
    # shares of replay are given to five digits
    assert plan.epoch_rows == pytest.approx(rows, abs=0.1)
    assert LOG.get(version, LOG["v1_0"]).rows == rows
    uses = {task: use.rows for task, use in plan.use().items()}
    assert sum(uses.values()) / plan.row_epochs == pytest.approx(rows, abs=1)
