"""Every command of the documents can be given as it is written: its options and overrides exist."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import launch.diagnose
import launch.node
import launch.report
import launch.status
import launch.versions
from launch.composing import addable, reads_data
from launch.sweeps.members import member
from launch.sweeps.syntax import read
from tests.docs.pages import PAGES, commands, read_page, shell_lines, words_of
from tests.shared_data import REPOSITORY
from trainer.config.strict_merge import to_config

#: Programs that take options; all others take overrides.
WITH_OPTIONS = (
    *("launch/diagnose.py", "launch/node.py", "launch/report.py", "launch/status.py"),
    "launch/versions.py",
)
#: One override: a key, or a group with its package, and a value.
_OVERRIDE = re.compile(r"\+{0,2}[a-z_]\w*(/\w+)*(@[\w.]+)?(\.[\w-]+)*=\S+")
#: README.zh-CN.md has the commands of README.md, as test_readme_zh.py holds.
_PAGES = [read_page(path) for path in PAGES if path.name != "README.zh-CN.md"]
_WRITTEN = list(
    dict.fromkeys((program, tuple(words)) for page in _PAGES for program, words in commands(page))
)
_BARE = [tuple(words_of(line)) for page in _PAGES for line in shell_lines(page)]
_TABLED = [
    tuple(words_of(code))
    for page in _PAGES
    for lines in page.prose.values()
    for line in lines
    if line.startswith("|")
    for code in re.findall(r"`([^`]+)`", line.split("|")[2])
]
#: Words that are overrides and nothing else, in a block of code or the second column of a table.
_OVERRIDES = [
    words
    for words in dict.fromkeys([*_BARE, *_TABLED])
    if words and all(map(_OVERRIDE.fullmatch, words))
]


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hydra tree with the experiment file that docs/your-data.md has its reader write."""
    folder = tmp_path_factory.mktemp("documented") / "conf"
    shutil.copytree(REPOSITORY / "conf", folder)
    page = read_page(REPOSITORY / "docs" / "your-data.md")
    mine = next(b for b in page.blocks if "# My ten tasks. Select: experiment=mine" in b.lines)
    text = "\n".join(mine.lines)
    (folder / "experiment" / "mine.yaml").write_text(f"{text}\n", encoding="utf-8")
    return folder


def check_overrides(conf: Path, words: Sequence[str]) -> None:
    """Raises what the command would raise of these overrides."""
    with initialize_config_dir(str(conf), version_base="1.3"):
        tree = compose("train", overrides=addable(list(words)))
    reads_data(tree)
    to_config(tree)


def check_sweep(conf: Path, words: list[str]) -> None:
    """Raises what a sweep would of its first and last values."""
    asked = read(words, search="sweep=search" in words)
    assert asked.axes, "it varies nothing"
    for end in (0, -1):
        check_overrides(
            conf, member("", asked, {axis.key: axis.ends()[end] for axis in asked.axes}).overrides
        )


@pytest.mark.parametrize(
    ("program", "words"), _WRITTEN, ids=[" ".join([one, *words]) for one, words in _WRITTEN]
)
def test_a_written_command_is_understood(
    program: str, words: tuple[str, ...], conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (REPOSITORY / program).is_file(), f"there is no {program}"
    if words[:1] == ("-m",):
        check_sweep(conf, list(words[1:]))
    elif program not in WITH_OPTIONS:
        check_overrides(conf, words[1:] if words[:1] == ("preview",) else words)
    elif program == "launch/versions.py":
        options, overrides = launch.versions.arguments(list(words))
        for version in options.only:
            check_overrides(conf, [f"experiment=bench/{version}", *overrides])
    elif program == "launch/report.py":
        monkeypatch.setattr(sys, "argv", [program, *words])
        given = launch.report.arguments()
        assert given.runs or given.sweep
    elif program == "launch/status.py":
        monkeypatch.setattr(sys, "argv", [program, *words])
        assert launch.status.arguments().runs
    elif program == "launch/node.py":
        options = launch.node.arguments(list(words))
        assert (REPOSITORY / options.program).is_file()
        check_overrides(conf, options.overrides)
    else:
        asked: list[Path] = []
        monkeypatch.setattr(sys, "argv", [program, *words])
        monkeypatch.setattr(launch.diagnose, "command", asked.append)
        launch.diagnose.main()
        assert asked == [Path(words[0])]


@pytest.mark.parametrize("words", _OVERRIDES, ids=" ".join)
def test_a_written_override_is_understood(words: tuple[str, ...], conf: Path) -> None:
    check_overrides(conf, words)


def test_every_program_is_in_the_documents() -> None:
    programs = {path.name for path in (REPOSITORY / "launch").glob("[a-z]*.py")}
    assert {f"launch/{name}" for name in programs - {"composing.py"}} == {
        one for one, _ in _WRITTEN
    }
    assert len(_OVERRIDES) > 20


def test_other_programs_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    found = set(re.findall(r"python (\w+/[\w/]+\.py)", text))
    assert "benchmarks/data_scale.py" in found
    assert {path for path in found if not (REPOSITORY / path).is_file()} == set()
