"""The terminal report: the same figures, within its width, whatever the names are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from data_modules.report import Report, advice, print_report
from tests.data_modules.report.made_report import clean_report, full_report, task_report


def printed(report: Report, width: int = 120, page: Path | None = None) -> str:
    stream = io.StringIO()
    print_report(Console(file=stream, width=width, highlight=False), report, page)
    return stream.getvalue()


def cells(text: str, table: str, name: str) -> list[str]:
    """The words of a table's row that begins with a name, from the table's title on."""
    lines = text[text.index(f"\n{table} ") :].splitlines()
    return next(line for line in lines if line.split()[:1] == [name]).split()[1:]


def figures(words: list[str], count: int) -> list[int]:
    return [int(word.replace(",", "")) for word in [one for one in words if one != "*"][:count]]


@pytest.mark.parametrize("task_count", [10, 50])
def test_figures_are_the_reports(task_count: int) -> None:
    report = full_report(task_count)
    text = printed(report)
    # Only the run of 50 has samples that are too long, and so that column.
    too_long = any(task["overlong"] for task in report["tasks"].values())
    for name, task in report["tasks"].items():
        rows = [
            *(task["read"], task["not_selected"], task["unreadable"]),
            *(sum(task["rejects"].values()), task["kept"]),
            *([task["overlong"]] if too_long else []),
            task["negatives"],
        ]
        assert figures(cells(text, "rows", name), len(rows)) == rows
        samples = [task["kept"] - task["overlong"], task["tokens"], task["answer_tokens"]]
        assert figures(cells(text, "samples", name), 3) == samples
    answers = sum(task["answer_tokens"] for task in report["tasks"].values())
    share = report["tasks"]["qa"]["answer_tokens"] / answers
    assert cells(text, "samples", "qa")[4] == f"{share:.1%}"


def test_rejects_by_rule_and_task() -> None:
    tasks = {f"t{i:02d}": task_report(rejects={"refusal": 100 - i}) for i in range(15)}
    text = printed(clean_report(**tasks, qa=task_report(rejects={"tag_leak": 0})))
    flat = " ".join(text[text.index("rejected rows") :].split())
    assert f"refusal {sum(100 - i for i in range(15)):,}" in flat
    assert "t00 100, t01 99" in flat
    assert "t11 89 and 3 more: 261" in flat
    assert "These rules found nothing: tag_leak." in flat


def test_advice_and_paths_are_printed_whole() -> None:
    report = full_report()
    report["rejects_file"] = "/a/long/path/" + "x" * 150 + "/rejects.jsonl"
    text = printed(report, page=Path("out") / ("y" * 150) / "report.html")
    flat = " ".join(text.split())
    squeezed = "".join(text.split())
    for line in advice(report):
        assert "".join(line.replace("`", "").split()) in squeezed
    assert f"rejected rows: {report['rejects_file']}" in flat
    assert f"page: out/{'y' * 150}/report.html" in flat
    assert report["fingerprint"] in flat


def test_lines_fit_and_figures_are_whole() -> None:
    report = full_report(50)
    report["tasks"]["a_very_long_task_name_" * 6] = task_report(
        read=10_000_000, negatives=7_654_321
    )
    report["tasks"]["任务" * 40] = task_report()
    report["rejects_file"] = "rejects.jsonl"
    lines = printed(report).splitlines()
    assert max(map(cell_len, lines)) <= 120
    assert len(lines) < 240
    # A console that is too narrow for them gets longer lines, not shorter figures.
    for text in (printed(report), printed(report, 80), printed(report, 50)):
        assert " 10,000,000 " in text
        assert " 7,654,321 " in text
        assert "…" not in text


def test_clean_and_empty_reports() -> None:
    text = printed(clean_report())
    assert "No row was rejected by a cleaning rule." in text
    assert "Nothing here calls for a decision." in text
    assert "wording" not in text
    report = clean_report()
    report["tasks"] = {}
    assert "No row was read" in printed(report)


def test_names_cannot_command_the_terminal() -> None:
    report = clean_report(**{"[red]x\x1b[2J": task_report(rejects={"[bold]\x1b]0;": 3})})
    report["name"] = "a\x1b[31m"
    text = printed(report)
    assert "\x1b" not in text
    assert "[red]x⟨U+001B⟩[2J" in text
    assert "[bold]⟨U+001B⟩]0;" in text
