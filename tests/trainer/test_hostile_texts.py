"""What rows, models and names say on terminals, in logs, pictures and Markdown: shown, never obeyed.

The HTML pages have tests of their own, tests/data_modules/report/test_page.py and
tests/trainer/report/test_run_page.py.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.progress import Progress
from rich.table import Table

from data_modules.config import DataConfig, TaskConfig
from data_modules.faults import ConfigFault, DataFault, Fault
from data_modules.masking import MASK
from launch.composing import report_faults
from tests.trainer.report.made_run import HOSTILE, made_run, task_names
from trainer import exit_codes
from trainer.charts import draw_run
from trainer.config.schema import Config, PhaseConfig
from trainer.console import LOGGER, PhaseProgress, PlainConsole, make_console, start_logging
from trainer.curriculum import Phase
from trainer.diagnosis.finding import Finding, Severity
from trainer.diagnosis.page import print_findings
from trainer.evaluation.results import Evaluation
from trainer.model_card import model_card
from trainer.report import write_report
from trainer.run_facts import read_run
from trainer.summary import print_summary

#: text -> how it is shown
TEXTS = {
    "[red]x[/red] [/nope] [link=http://evil]y[/link]": "[red]x[/red] [/nope] [link=http://evil]y[/link]",
    "\x1b[2J\x1b]0;title\x07": "⟨U+001B⟩[2J⟨U+001B⟩]0;title⟨U+0007⟩",
    "\x9b31mred": "⟨U+009B⟩31mred",
    "exe.\u202egnp": "exe.⟨U+202E⟩gnp",
    "a\u2066b\u2069 \u200bc\ufeff": "a⟨U+2066⟩b⟨U+2069⟩ ⟨U+200B⟩c⟨U+FEFF⟩",
    ":smile: :warning:": ":smile: :warning:",
    "back\x08space\rreturn": "back⟨U+0008⟩space⟨U+000D⟩return",
    "\ud800": "⟨U+D800⟩",
    "{task.description} {{ 7 * 7 }} %s %(message)s": "{task.description} {{ 7 * 7 }} %s %(message)s",
}
#: Names that pass the rules of names, and names that were there before there were any.
NAMES = ["[red]loud[/]", "[/]", "$\\frac{$", "a|b`c", "<img src=x onerror=alert(1)>", "b\x1b[31m"]
TOKEN = "hf_" + "aBcDeFgHiJ" * 3
FORBIDDEN = ("\x1b", "\u202e", "\u200b", "\x07", "\x08")


def console_to(stream: StringIO, terminal: bool = False) -> PlainConsole:
    return PlainConsole(file=stream, width=300, force_terminal=terminal, color_system=None)


@pytest.mark.parametrize(("text", "shown"), TEXTS.items())
def test_console_prints_texts_as_they_are(text: str, shown: str) -> None:
    stream = StringIO()
    console = console_to(stream)
    console.print(text)
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    console.print(table)
    console.print(text, soft_wrap=True)
    assert stream.getvalue().count(shown) == 5
    assert not any(one in stream.getvalue() for one in FORBIDDEN)


def test_the_console_of_every_command_is_a_plain_one() -> None:
    assert isinstance(make_console(), PlainConsole)


def test_only_one_place_makes_consoles() -> None:
    root = Path(__file__).resolve().parents[2]
    found = {
        path.relative_to(root).as_posix()
        for package in ("trainer", "launch", "data_modules")
        for path in (root / package).rglob("*.py")
        if " Console(" in (text := path.read_text(encoding="utf-8")) or "from_markup" in text
    }
    assert found == set(), "make_console escapes what is printed"


@pytest.mark.parametrize("name", NAMES)
def test_progress_bar_of_a_phase(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(
        "trainer.console.make_console", lambda: console_to(StringIO(), terminal=True)
    )
    real = Progress.add_task
    monkeypatch.setattr(
        Progress,
        "add_task",
        lambda self, text, **fields: (shown.append(text), real(self, text, **fields))[1],
    )
    progress = PhaseProgress(name, 2, 0.0, True)
    progress.update(1, 1.0, 1.0, 1e-3)
    progress.close()
    assert not any(one in shown[0] for one in FORBIDDEN)
    assert capsys.readouterr().err == ""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "log" / "rank_0.log"
    start_logging(path, is_main=True)
    yield path
    LOGGER.handlers.clear()


@pytest.mark.parametrize(("text", "shown"), TEXTS.items())
def test_logs_hold_texts_as_they_are(log: Path, text: str, shown: str) -> None:
    LOGGER.warning("phase '%s': %s", text, "said")
    written = log.read_text(encoding="utf-8")
    assert f"phase '{shown}': said" in written
    assert not any(one in written for one in FORBIDDEN)


def test_logs_hold_no_secrets(log: Path) -> None:
    try:
        raise ConnectionError(f"https://me:pw@hub.example/x?token={TOKEN} refused")
    except ConnectionError:
        LOGGER.exception("cannot reach %s", "https://me:pw@hub.example")
    written = log.read_text(encoding="utf-8")
    assert TOKEN not in written
    assert "me:pw" not in written
    assert f"https://{MASK}@hub.example" in written
    assert "ConnectionError" in written, "the rest of the traceback is there"


@pytest.mark.parametrize(("text", "shown"), TEXTS.items())
def test_faults_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str], text: str, shown: str
) -> None:
    """A row's own text is quoted in them."""

    def refuse() -> None:
        raise DataFault(Fault("train/qa.jsonl:1", f"role '{text}' is none", TOKEN))

    with pytest.raises(SystemExit) as end:
        report_faults(refuse)
    assert end.value.code == exit_codes.USER_FAULT
    error = capsys.readouterr().err
    assert f"train/qa.jsonl:1: role '{shown}' is none; {MASK}." in error
    assert not any(one in error for one in FORBIDDEN)


def test_faults_travel_between_ranks_as_they_are() -> None:
    fault = ConfigFault(Fault("a", TOKEN, "b"))
    again = pickle.loads(pickle.dumps(fault))
    assert str(again) == str(fault)
    assert TOKEN not in str(again)


def finding(text: str) -> Finding:
    return Finding(
        rule="r",
        title=text,
        severity=Severity.high,
        evidence=[text],
        overrides=[f"data.tasks.x.tag={text}"],
        tasks=[],
        score=1.0,
    )


@pytest.mark.parametrize(("text", "shown"), TEXTS.items())
def test_findings(text: str, shown: str) -> None:
    stream = StringIO()
    print_findings(console_to(stream), [finding(text)], {"rule": text})
    assert stream.getvalue().count(shown) == 4
    assert not any(one in stream.getvalue() for one in FORBIDDEN)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose tasks and answers are what nobody wants."""
    return made_run(tmp_path, [*task_names(2), *NAMES[:4]], answers=HOSTILE, name="[red]run[/]")


def test_the_end_of_a_run(run: Path) -> None:
    """Tables, findings, pictures and page of hostile names and answers, all of them."""
    facts = read_run(run)
    stream = StringIO()
    console = console_to(stream)
    print_summary(console, facts.evaluations)
    draw_run(facts.evaluations, facts.directory.metrics, facts.directory.picture)
    findings = [finding(text) for text in TEXTS]
    print_findings(console, findings, {})
    write_report(facts, findings, {})
    printed = stream.getvalue()
    assert not any(one in printed for one in FORBIDDEN)
    for name in NAMES[:4]:
        assert name in printed
    assert facts.directory.picture.stat().st_size > 1_000
    assert (run / "report.html").is_file()


def test_picture_of_any_names(run: Path, tmp_path: Path) -> None:
    facts = read_run(run)
    last = list(facts.evaluations.values())[-1]
    tasks = dict(zip(NAMES, last.tasks.values(), strict=False))
    columns = {"initial": replace(last, tasks=tasks), "$\\frac{$": replace(last, tasks=tasks)}
    draw_run(columns, facts.directory.metrics, tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 1_000


def test_summary_of_any_names(run: Path) -> None:
    last = list(read_run(run).evaluations.values())[-1]
    tasks = dict(zip(NAMES, last.tasks.values(), strict=False))
    stream = StringIO()
    print_summary(console_to(stream), {"[/]": replace(last, tasks=tasks)})
    for name in NAMES[:5]:
        assert name in stream.getvalue()
    assert "b⟨U+001B⟩[31m" in stream.getvalue()


def test_card_of_a_model() -> None:
    """Markdown that a hub renders: names make no HTML, no column and no line of their own."""
    names = ["a|b`c", "<img src=x onerror=alert(1)>", "b\x1b[31m"]
    tasks = {name: TaskConfig(tag="<script>|`") for name in names}
    config = Config(run_name="<b>run\nx", data=DataConfig(tasks=tasks))
    phase = Phase(names[1], 1, 2, PhaseConfig(tasks=names))
    plan = {"phases": {names[1]: {"tasks": {names[0]: {"rows": 3}}}}}
    start = f"Starts from https://me:pw@hub.example/{TOKEN}."
    card = model_card(config, [phase], plan, Evaluation({}), start)
    assert "me:pw" not in card
    assert TOKEN not in card
    assert not any(one in card for one in FORBIDDEN)
    card = re.sub(r"^```.*?^```$", "", card, flags=re.M | re.S)
    outside_code = re.sub(r"``.*?``|`[^`\n]*`", "", card.replace("\\`", ""))
    assert "<" not in outside_code
    rows = [line for line in card.split("\n") if line.startswith("| ")]
    cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows if "a\\|b" in row}
    assert cells == {9, 6, 5}, "phases, tasks and prompts: a pipe in a name makes no cell"
