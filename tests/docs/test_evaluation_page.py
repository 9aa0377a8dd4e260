"""docs/evaluation.md and docs/your-data.md list what there is: rules, metrics, prompt sets, fields."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from data_modules.config import PromptSet
from tests.shared_data import REPOSITORY
from trainer.diagnosis.diagnose import RULES
from trainer.evaluation.behaviour.judge import FALSE_ALARMS
from trainer.evaluation.metrics import metric_names
from trainer.evaluation.sandbox import Limits

EVALUATION = REPOSITORY / "docs" / "evaluation.md"
YOUR_DATA = REPOSITORY / "docs" / "your-data.md"


def section(page: Path, heading: str) -> str:
    """The text under a heading, up to the next."""
    found = re.search(
        rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", page.read_text("utf-8"), re.M | re.S
    )
    assert found, f"{page.name} has no section '{heading}'"
    return found[1]


def first_cells(text: str) -> list[str]:
    """What stands between back-ticks in the first column of the tables."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_rule_of_the_diagnosis_is_listed() -> None:
    listed = first_cells(section(EVALUATION, "What is wrong, and what to try: diagnosis"))
    assert listed == [rule.name for rule in RULES]


def test_every_metric_is_listed() -> None:
    listed = first_cells(section(YOUR_DATA, "Metrics"))
    built_in = [name for name in metric_names() if not name.startswith("bench:")]
    assert listed == [*built_in, "bench:<task>"]


def test_every_prompt_set_is_listed() -> None:
    listed = first_cells(section(EVALUATION, "Four ways to ask: prompt sets"))
    assert listed == [one.value for one in PromptSet]


def test_the_metrics_of_the_ten_tasks_are_those_of_their_files() -> None:
    rows = {
        cells[0]: cells[1:]
        for line in section(EVALUATION, "How good: metrics").splitlines()
        if line.startswith("| `") and (cells := re.findall(r"`([^`]+)`", line))
    }
    files = sorted((REPOSITORY / "conf" / "task" / "ten_tasks").glob("*.yaml"))
    tasks = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in files}
    assert rows == {name: [one["metric"], *one.get("metrics", [])] for name, one in tasks.items()}


def test_limits_and_bounds_are_those_of_the_code() -> None:
    limits = Limits()
    assert (
        f"{limits.seconds:g} s of wall clock, {limits.cpu_seconds} s of CPU, "
        f"{limits.memory_bytes >> 30} GiB, {limits.output_bytes >> 20} MiB printed, "
        f"{limits.file_bytes >> 20} MiB written"
    ) in section(EVALUATION, "Code that a model wrote")
    assert f"{FALSE_ALARMS:.2%} on the mean" in " ".join(
        section(EVALUATION, "Which task's behaviour: crosstalk").replace(" %", "%").split()
    )
