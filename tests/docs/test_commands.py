"""Every command of the documents can be given as it is written: its options and overrides exist."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import launch.diagnose
import launch.report
import launch.versions
from launch.composing import addable
from tests.docs.pages import PAGES, commands, read_page, shell_lines, words_of
from tests.shared_data import REPOSITORY
from trainer.config.strict_merge import to_config

#: Programs that take options; all others take overrides.
WITH_OPTIONS = ("launch/diagnose.py", "launch/report.py", "launch/versions.py")
#: One override: a key, or a group with its package, and a value.
_OVERRIDE = re.compile(r"\+{0,2}[a-z_]\w*(/\w+)*(@[\w.]+)?(\.[\w-]+)*=\S+")
_WRITTEN = [
    pytest.param(program, words, id=f"{page.name}: {program} {' '.join(words)}")
    for page in PAGES
    for program, words in commands(read_page(page))
]
_BARE = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)}")
    for page in PAGES
    for line in shell_lines(read_page(page))
    if (words := words_of(line)) and all(map(_OVERRIDE.fullmatch, words))
]
_TABLED = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)}")
    for page in PAGES
    for lines in read_page(page).prose.values()
    for line in lines
    if line.startswith("|")
    for code in re.findall(r"`([^`]+)`", line.split("|")[2])
    if (words := words_of(code)) and all(map(_OVERRIDE.fullmatch, words))
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


def check_overrides(conf: Path, words: list[str]) -> None:
    """Raises what the command would raise of these overrides."""
    with initialize_config_dir(str(conf), version_base="1.3"):
        to_config(compose("train", overrides=addable(words)))


@pytest.mark.parametrize(("program", "words"), _WRITTEN)
def test_a_written_command_is_understood(
    program: str, words: list[str], conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (REPOSITORY / program).is_file(), f"there is no {program}"
    if program not in WITH_OPTIONS:
        check_overrides(conf, words[1:] if words[:1] == ["preview"] else words)
    elif program == "launch/versions.py":
        options, overrides = launch.versions.arguments(words)
        for version in options.only:
            check_overrides(conf, [f"experiment=bench/{version}", *overrides])
    elif program == "launch/report.py":
        monkeypatch.setattr(sys, "argv", [program, *words])
        assert launch.report.arguments().runs
    else:
        asked: list[Path] = []
        monkeypatch.setattr(sys, "argv", [program, *words])
        monkeypatch.setattr(launch.diagnose, "command", asked.append)
        launch.diagnose.main()
        assert asked == [Path(words[0])]


@pytest.mark.parametrize("words", [*_BARE, *_TABLED])
def test_a_written_override_is_understood(words: list[str], conf: Path) -> None:
    check_overrides(conf, words)


def test_commands_are_found() -> None:
    """Else the tests above would hold of nothing."""
    programs = {one.values[0] for one in _WRITTEN}
    assert {
        f"launch/{path.name}" for path in (REPOSITORY / "launch").glob("[a-z]*.py")
    } - programs <= {"launch/composing.py"}
    assert len(_BARE) > 5
    assert len(_TABLED) > 10


def test_other_programs_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    found = set(re.findall(r"python (\w+/[\w/]+\.py)", text))
    assert "benchmarks/data_scale.py" in found
    assert {path for path in found if not (REPOSITORY / path).is_file()} == set()
