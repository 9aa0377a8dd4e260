"""The log's five versions, and what our own runs of them gave, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from trainer.console import make_console
from trainer.evaluation.results import Figure
from trainer.report.cells import NOTHING, percent
from trainer.report.combining import mean_of, over_seeds
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
#: Measure of a comparison, its title, and the field of the log's figure; "" where the log has none.
_LINES = (
    ("mean", "mean of tasks", "mean"),
    ("worst", "worst task", ""),
    ("best", "best task", ""),
    ("spread", "spread", ""),
    ("rare", "rare tasks", ""),
    ("task/qa", "qa", "qa"),
    ("task/translation", "translation", "translation"),
    ("crosstalk/ordinary", "crosstalk, ordinary", "crosstalk"),
    ("crosstalk/paraphrase", "crosstalk, paraphrase", ""),
    ("crosstalk/conflict", "crosstalk, conflict", ""),
    ("crosstalk/no_tag", "crosstalk, no_tag", ""),
    ("in_format", "in format, as generated", ""),
    ("in_format_processed", "in format, processed", "in_format"),
    ("general_before", "general before", ""),
    ("general_after", "general after", ""),
)


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
    """One column per version: ours in per cent with intervals, the log's figure in a line of its own."""
    rows_of = {str(one.config["run_name"]): _epoch_rows(one) for one in facts}
    groups = comparison.groups
    logged = [LOG.get(group.name) for group in groups]
    table = Table(
        title="the five versions, %: ours (95 % interval), and the log's on its own data and model",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for group in groups:
        table.add_column(group.name, justify="right", no_wrap=True)
    table.add_row("rows of an epoch", *(f"{rows_of[one.runs[0].name]:,}" for one in groups))
    table.add_row("  the log's", *(f"{one.rows:,}" if one else "" for one in logged))
    for key, title, field in _LINES:
        cells = [_cell(group, key) for group in groups]
        if any(cell != NOTHING for cell in cells):
            table.add_row(title, *cells)
            of_log = [getattr(one, field) if one and field else "" for one in logged]
            if any(of_log):
                table.add_row("  the log's", *of_log)
        if key == "mean":
            table.add_row("mean, all prompt sets", *(_all_sets(one, facts) for one in groups))
    console.print(table)


def _epoch_rows(facts: RunFacts) -> int:
    """Rows of an epoch of the first phase."""
    first = next(iter(facts.plan["phases"].values()))
    return round(first["epoch_rows"])


def _all_sets(group: Group, facts: Sequence[RunFacts]) -> str:
    """Mean score of the specialised tasks over every prompt set that was asked, and over seeds."""
    names = {run.name for run in group.runs}
    means = []
    for one in facts:
        if one.config["run_name"] in names and one.last is not None:
            scores = [
                result.score_on(prompt_set)
                for result in one.last.special.values()
                for prompt_set in result.sets
            ]
            means.append(mean_of([score for score in scores if score is not None]))
    found = [one for one in means if one is not None]
    return _text(over_seeds(found) if found else None)


def _cell(group: Group, key: str) -> str:
    return _text(group.figures.get(key))


def _text(figure: Figure | None) -> str:
    """Short enough for six versions on one screen: decimals of the interval where they say something."""
    if figure is None:
        return NOTHING
    digits = 1 if figure.high < 0.1 else 0
    return f"{percent(figure.value)} ({100 * figure.low:.{digits}f}–{100 * figure.high:.{digits}f})"
