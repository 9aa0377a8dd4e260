"""The report on a terminal: what came in, what was left out and why, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_modules.report.advice import MANY_OVERLONG, MANY_REJECTED, advice
from data_modules.report.contents import Report, TaskReport
from data_modules.report.figures import (
    is_scored,
    language_counts,
    lengths,
    most_first,
    readable_rows,
    rejected_rows,
    rule_counts,
    sample_rows,
    share,
    shares,
    total,
)
from data_modules.report.visible import visible

_SHOWN_TASKS = 12  # named behind a rule
_SHOWN_LANGUAGES = 2
_WARN = "yellow"


def print_report(console: Console, report: Report, page: Path | None = None) -> None:
    """Print the report.

    Args:
        page: the HTML page, if one was written; its path is printed.
    """
    console.print(_headline(report))
    _print_table(console, _row_table(report))
    _print_table(console, _token_table(report))
    _print_rejects(console, report)
    if report["phases"]:
        _print_table(console, _wording_table(report))
    _print_advice(console, advice(report))
    console.print(_text(f"rejected rows: {report['rejects_file']}"), soft_wrap=True)
    if page is not None:
        console.print(_text(f"page:          {page}"), soft_wrap=True)
    console.print(_text(f"fingerprint:   {report['fingerprint']}"), soft_wrap=True)


def _headline(report: Report) -> Text:
    return Text.assemble(
        (visible(report["name"]), "bold"),
        f": {total(report, lambda task: task['read']):,} rows read from {visible(report['root'])}, "
        f"{total(report, sample_rows):,} samples of {total(report, lambda task: task['tokens']):,} "
        f"tokens, in {report['seconds']:.1f} s with {report['workers']} worker(s)",
    )


def _table(title: str, names: str, *figures: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column(names, min_width=14, max_width=28, overflow="fold")
    for figure in figures:
        table.add_column(figure, justify="right", overflow="fold")
    return table


def _print_table(console: Console, table: Table) -> None:
    """On a narrow console headings and names break, then lines; no figure is cut: it would mislead."""
    for column in table.columns:
        if column.justify == "right":
            words = [*str(column.header).split(), *(str(cell) for cell in column.cells)]
            column.min_width = max(map(cell_len, words), default=0)
    console.print(table, crop=False)


def _row_table(report: Report) -> Table:
    """What became of every task's rows. Columns that nothing fills are left out."""
    columns = [column for column in _ROW_COLUMNS if column[0] or total(report, column[2])]
    table = _table("rows", "task", *(heading for _, heading, _, _ in columns))
    table.add_column("languages", min_width=6, max_width=30, overflow="fold")
    for name, task in report["tasks"].items():
        table.add_row(
            _label(name, task),
            *(
                Text(f"{figure(task):,}", style=_WARN if is_high(task) else "")
                for _, _, figure, is_high in columns
            ),
            _languages(task["languages"]),
        )
    table.add_section()
    table.add_row(
        "all",
        *(f"{total(report, figure):,}" for _, _, figure, _ in columns),
        _languages(language_counts(report["tasks"].values())),
        style="bold",
    )
    return table


def _too_long(task: TaskReport) -> int:
    return task["overlong"] + task["truncated"] + task["all_masked"]


# Always shown, heading, figure, what makes it worth a look.
_ROW_COLUMNS: tuple[
    tuple[bool, str, Callable[[TaskReport], int], Callable[[TaskReport], bool]], ...
] = (
    (True, "read", lambda task: task["read"], lambda task: False),
    (False, "not selected", lambda task: task["not_selected"], lambda task: False),
    (True, "unreadable", lambda task: task["unreadable"], lambda task: task["unreadable"] > 0),
    (
        True,
        "rejected",
        rejected_rows,
        lambda task: share(rejected_rows(task), readable_rows(task)) > MANY_REJECTED,
    ),
    (True, "kept", lambda task: task["kept"], lambda task: False),
    (
        False,
        "too long",
        _too_long,
        lambda task: share(_too_long(task), task["kept"]) > MANY_OVERLONG,
    ),
    (True, "negatives", lambda task: task["negatives"], lambda task: False),
)


def _token_table(report: Report) -> Table:
    """What every task's samples weigh."""
    scored = any(is_scored(task) for task in report["tasks"].values())
    headings = ("samples", "tokens", "answer tokens", "row share", "token share", "median", "95th")
    table = _table("samples", "task", *headings, *(["quality"] if scored else []))
    of_rows = shares(report, sample_rows)
    of_answers = shares(report, lambda task: task["answer_tokens"])
    for name, task in report["tasks"].items():
        table.add_row(
            _label(name, task),
            f"{sample_rows(task):,}",
            f"{task['tokens']:,}",
            f"{task['answer_tokens']:,}",
            f"{of_rows[name]:.1%}",
            f"{of_answers[name]:.1%}",
            *("-" if value is None else f"{value:,.0f}" for value in lengths(task)),
            *([f"{task['quality_mean']:.2f}" if is_scored(task) else "-"] if scored else []),
        )
    table.add_section()
    table.add_row(
        "all",
        f"{total(report, sample_rows):,}",
        f"{total(report, lambda task: task['tokens']):,}",
        f"{total(report, lambda task: task['answer_tokens']):,}",
        style="bold",
    )
    notes = ["token share: of answer tokens", "median and 95th: tokens of a sample"]
    if any(task["general"] for task in report["tasks"].values()):
        notes.append("* general task")
    table.caption, table.caption_justify = "; ".join(notes), "left"
    return table


def _label(name: str, task: TaskReport) -> Text:
    return _text(name).append(" *" if task["general"] else "")


def _text(text: str) -> Text:
    """A text from outside: no markup, no control characters."""
    return Text(visible(text))


def _languages(counts: dict[str, int]) -> Text:
    whole = sum(counts.values())
    found = [
        f"{language or '?'} {rows / whole:.0%}" for language, rows in most_first(counts).items()
    ]
    rest = len(found) - _SHOWN_LANGUAGES
    return _text(" ".join(found[:_SHOWN_LANGUAGES]) + (f" +{rest}" if rest > 0 else ""))


def _print_rejects(console: Console, report: Report) -> None:
    """One line a rule: all rows, then the tasks they are from."""
    counts = rule_counts(report)
    found = {rule: rows for rule, rows in counts.items() if rows}
    if found:
        table = _table("rejected rows", "rule", "rows", "of readable")
        table.add_column("tasks, most rows first", overflow="fold")
        readable = total(report, readable_rows)
        for rule, rows in found.items():
            table.add_row(
                _text(rule), f"{rows:,}", f"{share(rows, readable):.2%}", _by_task(report, rule)
            )
        _print_table(console, table)
    else:
        console.print("No row was rejected by a cleaning rule.")
    idle = [rule for rule, rows in counts.items() if not rows]
    if idle:
        console.print(_text(f"These rules found nothing: {', '.join(idle)}."))


def _by_task(report: Report, rule: str) -> Text:
    rows = most_first(
        {name: task["rejects"].get(rule, 0) for name, task in report["tasks"].items()}
    )
    named = [f"{name} {count:,}" for name, count in rows.items()]
    rest = sum(list(rows.values())[_SHOWN_TASKS:])
    more = f" and {len(named) - _SHOWN_TASKS} more: {rest:,}" if rest else ""
    return _text(", ".join(named[:_SHOWN_TASKS]) + more)


def _wording_table(report: Report) -> Table:
    table = _table("wording", "phase", "rows", "tagged", "untagged", "paraphrased", "other cues")
    for phase, wording in report["phases"].items():
        table.add_row(
            _text(phase),
            f"{wording['rows']:,}",
            f"{wording['tagged']:,}",
            f"{wording['untagged']:,}",
            f"{wording['paraphrased']:,}",
            f"{sum(rows for cues in wording['cues'].values() for rows in cues.values()):,}",
        )
    return table


def _print_advice(console: Console, lines: list[str]) -> None:
    if not lines:
        console.print("Nothing here calls for a decision.")
        return
    console.print(Text("what to do", style="italic"))
    for number, line in enumerate(lines, start=1):
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(justify="right", width=3)
        grid.add_column(overflow="fold")
        grid.add_row(f"{number}.", _with_overrides(line))
        console.print(grid)
    console.print()


def _with_overrides(line: str) -> Text:
    """An advice line, what stands between backticks set off."""
    text = Text()
    for index, part in enumerate(re.split("`", visible(line))):
        text.append(part, style="bold cyan" if index % 2 else "")
    return text
