"""The log's five versions, and what our own runs of them gave, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainer.console import make_console
from trainer.evaluation.results import Figure
from trainer.report.cells import NOTHING, between, percent
from trainer.report.comparison import Comparison, Group, compare
from trainer.report.comparison_page import write_comparison
from trainer.report.comparison_table import print_comparison
from trainer.report.summarise import summarise
from trainer.run_facts import RunFacts, read_run


@dataclass(frozen=True)
class LoggedVersion:
    """What the log of the hand-made versions says of one; "" where it says nothing.

    Attributes:
        rows: rows of an epoch, general ones counted.
        mean, crosstalk, qa, translation, in_format: in per cent, as the log has them.
    """

    rows: int
    mean: str = ""
    crosstalk: str = ""
    qa: str = ""
    translation: str = ""
    in_format: str = ""


#: From the log: Qwen-7B with LoRA on real tasks. Not to be compared in size with the benchmark's.
LOG: dict[str, LoggedVersion] = {
    "v0_1": LoggedVersion(1200, mean="70", crosstalk="10", qa="85", translation="38"),
    "v0_2": LoggedVersion(1300, crosstalk="worse", translation="rose"),
    "v0_3": LoggedVersion(1300),
    "v1_0": LoggedVersion(1700),
    "v1_1": LoggedVersion(1685, mean="85", crosstalk="< 2", in_format="95"),
}
_PROMPT_SETS = ("ordinary", "paraphrase", "conflict", "no_tag")


def compare_versions(runs: Sequence[Path], folder: Path) -> None:
    """Print the table of versions and write ``comparison.html`` beside the runs.

    Args:
        runs: finished run directories, named ``<version>-seed<N>``; seeds of a version are put together.
    """
    if not runs:
        return
    console = make_console()
    facts = [read_run(run) for run in runs]
    comparison = compare([summarise(one) for one in facts])
    print_comparison(console, comparison)
    print_versions(console, comparison, facts)
    console.print(f"page: {write_comparison(comparison, folder)}", soft_wrap=True, markup=False)


def print_versions(console: Console, comparison: Comparison, facts: Sequence[RunFacts]) -> None:
    """One line per version: ours in per cent with intervals, the log's figure behind a bar."""
    rows_of = {str(one.config["run_name"]): _epoch_rows(one) for one in facts}
    table = Table(
        title="the five versions in %: ours (95 % interval) | the log's; both on their own data and model",
        title_justify="left",
    )
    titles = ("rows", "mean", "worst", "best", "spread", "qa", "translation")
    for title in ("version", *titles, *(f"crosstalk {one}" for one in _PROMPT_SETS)):
        table.add_column(title, justify="left" if title == "version" else "right")
    for title in ("format", "general before", "general after"):
        table.add_column(title, justify="right")
    for group in comparison.groups:
        logged = LOG.get(group.name, LoggedVersion(0))
        rows = f"{rows_of[group.runs[0].name]:,}"
        table.add_row(
            group.name,
            f"{rows} | {logged.rows:,}" if logged.rows else rows,
            _cell(group, "mean", logged.mean),
            *(_cell(group, key) for key in ("worst", "best", "spread")),
            _cell(group, "task/qa", logged.qa),
            _cell(group, "task/translation", logged.translation),
            *(
                _cell(group, f"crosstalk/{one}", logged.crosstalk if one == "ordinary" else "")
                for one in _PROMPT_SETS
            ),
            _cell(group, "in_format_processed", logged.in_format),
            _cell(group, "general_before"),
            _cell(group, "general_after"),
        )
    console.print(table)


def _epoch_rows(facts: RunFacts) -> int:
    """Rows of an epoch of the first phase."""
    first = next(iter(facts.plan["phases"].values()))
    return round(first["epoch_rows"])


def _cell(group: Group, key: str, logged: str = "") -> str:
    figure: Figure | None = group.figures.get(key)
    ours = NOTHING if figure is None else f"{percent(figure.value)} ({between(figure)})"
    return f"{ours} | {logged}" if logged else ours
