"""The rooms and which way they may look: launch -> trainer -> data_modules, and no further."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("data_modules", "trainer", "launch")
MAY_IMPORT = {
    "data_modules": {"data_modules"},
    "trainer": {"trainer", "data_modules"},
    "launch": {"launch", "trainer", "data_modules"},
}
#: Files, or folders with a slash at the end, that may import a library.
OWNERS = {
    "hydra": ("launch/",),
    "omegaconf": ("launch/", "trainer/config/strict_merge.py"),
    "deepspeed": (
        *("trainer/engine.py", "trainer/deepspeed_config.py", "trainer/distributed.py"),
        "trainer/sequence_parallel.py",
    ),
}
FILES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for room in ROOMS
    for path in (REPOSITORY / room).rglob("*.py")
)
YAMLS = sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "conf").rglob("*"))


def imports(source: str, file: str) -> Iterator[str]:
    """Dotted names of every module that a source imports, at any depth of it."""
    package = file.split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*above, *([node.module] if node.module else [])])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant):
                yield str(first.value)


def breaches(source: str, file: str) -> list[str]:
    """What a source imports although its place forbids it."""
    found = []
    for name in imports(source, file):
        top = name.split(".")[0]
        if top in ROOMS and top not in MAY_IMPORT[file.split("/")[0]]:
            found.append(name)
        if top in OWNERS and not any(
            file == owner or (owner.endswith("/") and file.startswith(owner))
            for owner in OWNERS[top]
        ):
            found.append(name)
        if top == "tests":
            found.append(name)
    return found


def test_the_walk_sees_the_rooms() -> None:
    assert len(FILES) > 40
    assert {file.split("/")[0] for file in FILES} == set(ROOMS)
    assert {"trainer/config/strict_merge.py", "data_modules/benchmark/spec.py"} <= set(FILES)
    # Every library has a user where it is allowed, so the rules are about something.
    everything = {
        (name.split(".")[0], file)
        for file in FILES
        for name in imports((REPOSITORY / file).read_text(encoding="utf-8"), file)
    }
    assert {top for top, _ in everything} >= {*OWNERS, *ROOMS}


@pytest.mark.parametrize("file", FILES)
def test_imports_point_the_allowed_way(file: str) -> None:
    assert breaches((REPOSITORY / file).read_text(encoding="utf-8"), file) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("data_modules/plan.py", "import trainer.engine"),
        ("data_modules/plan.py", "from omegaconf import OmegaConf"),
        ("data_modules/benchmark/spec.py", "from ...trainer import engine"),
        ("trainer/loss.py", "def f():\n    from launch.composing import checked_config"),
        ("trainer/loss.py", "import deepspeed.comm as dist"),
        ("trainer/config/schema.py", "if True:\n    import omegaconf"),
        ("trainer/config/strict_merge.py", "import hydra"),
        ("launch/train.py", "import deepspeed"),
        ("launch/train.py", "import importlib\nimportlib.import_module('deepspeed')"),
        ("trainer/loss.py", "from tests import helpers"),
    ],
)
def test_a_breach_is_seen(file: str, source: str) -> None:
    assert breaches(source, file)


def test_no_file_is_called_utils() -> None:
    names = {Path(file).name for file in FILES}
    assert not names & {"utils.py", "util.py", "helpers.py", "misc.py"}


def keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from keys(item)


@pytest.mark.parametrize("file", [file for file in YAMLS if file.endswith(("yaml", "yml"))])
def test_no_yaml_names_python_to_call(file: str) -> None:
    content = yaml.safe_load((REPOSITORY / file).read_text(encoding="utf-8"))
    found = {key for key in keys(content) if key.startswith("_") and key != "_self_"}
    assert not found, "YAML holds values; Python decides"


def test_conf_holds_nothing_but_yaml_files() -> None:
    files = [file for file in YAMLS if (REPOSITORY / file).is_file()]
    assert len(files) > 60
    assert [file for file in files if not file.endswith(".yaml")] == []
