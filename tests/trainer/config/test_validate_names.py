"""Names that become files: none leads out of the run directory, and none hides what it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_modules.config import SourceConfig, TaskConfig
from data_modules.faults import ConfigFault
from tests.shared_config import faults_of, sound_config
from trainer.config.schema import Config, PhaseConfig
from trainer.config.validate import validate
from trainer.run_directory import RunDirectory

BAD = {
    "../../x": "starts with a dot",
    "..": "starts with a dot",
    ".hidden": "starts with a dot",
    "a/../../x": "holds a slash",
    "/etc/x": "holds a slash",
    "a\\..\\x": "holds a backslash",
    "a\0b": "cannot be seen",
    "a\nb": "cannot be seen",
    "\x1b[31mred": "cannot be seen",
    "qa\u202etxt.exe": "cannot be seen",
    "zero\u200bwidth": "cannot be seen",
    "half\ud800": "cannot be seen",
    " ": "is empty",
    " a": "starts or ends with a blank",
    "x" * 101: "has 101 bytes",
    "题" * 34: "has 102 bytes",
}
GOOD = ["qa_2", "code-2", "翻译", "a b", "<b>", "[red]", "$x$", "x" * 100, "naïve", "task.v1"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return sound_config(tmp_path)


def rename_task(config: Config, name: str) -> str:
    config.data.tasks[name] = TaskConfig({"main": SourceConfig("train/qa.jsonl")})
    return "data.tasks."


def rename_source(config: Config, name: str) -> str:
    config.data.tasks["qa"].sources[name] = SourceConfig("train/qa.jsonl")
    return "data.tasks.qa.sources."


def rename_phase(config: Config, name: str) -> str:
    config.curriculum.phases[name] = PhaseConfig(epochs=1.0)
    return "curriculum.phases."


def rename_group(config: Config, name: str) -> str:
    config.data.groups[name] = ["qa"]
    return "data.groups."


@pytest.mark.parametrize("rename", [rename_task, rename_source, rename_phase, rename_group])
@pytest.mark.parametrize("name", BAD)
def test_name_that_is_no_plain_file_name(config: Config, rename: object, name: str) -> None:
    assert callable(rename)
    where = rename(config, name)
    (fault,) = [one for one in faults_of(config) if "become file names" in one.rule]
    assert fault.where.startswith(where)
    assert BAD[name] in fault.seen
    assert fault.remedy == "Rename it, with letters, digits, - and _."
    assert not set(str(fault)) & set("\0\x1b\u202e\u200b\ud800"), "the message itself is safe"


@pytest.mark.parametrize("rename", [rename_task, rename_source, rename_phase, rename_group])
@pytest.mark.parametrize("name", GOOD)
def test_name_that_may_be(config: Config, rename: object, name: str) -> None:
    assert callable(rename)
    rename(config, name)
    validate(config, dp_world_size=1)
    root = Path("outputs/run")
    run = RunDirectory(root)
    for path in (run.phase(name), run.export(name), run.predictions(name) / f"{name}.jsonl"):
        assert Path(os.path.normpath(path)) == path
        assert path.is_relative_to(root)


@pytest.mark.parametrize("name", ["initial", "step_000012"])
def test_phase_under_a_reserved_name(config: Config, name: str) -> None:
    """Its evaluation would take the place of another one."""
    rename_phase(config, name)
    (fault,) = faults_of(config)
    assert (fault.where, fault.seen) == (f"curriculum.phases.{name}", "a reserved name")


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "a\x1b[2J", ".x", "a/.x", "a\n", "a//../b"]
)
def test_run_name_that_leads_elsewhere(config: Config, name: str) -> None:
    config.run_name = name
    with pytest.raises(ConfigFault) as caught:
        validate(config, dp_world_size=1)
    (fault,) = caught.value.faults
    assert fault.where == "run_name"
    assert "\x1b" not in str(fault)


@pytest.mark.parametrize("name", ["a", "a/b", "sweep/lr=1e-5", "a,b", "ten tasks", "v1.0"])
def test_run_name_that_may_be(config: Config, name: str) -> None:
    config.run_name = name
    validate(config, dp_world_size=1)
