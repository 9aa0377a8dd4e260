"""Runs side by side on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_modules.report.visible import visible
from trainer.evaluation.results import Figure
from trainer.report.cells import NOTHING, between, percent, signed
from trainer.report.comparison import Comparison, Group, Measure

_AT_ONCE = 6  # groups in one table; more follow below, the first beside them again


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the table: figures as value (interval), and below it the difference to the first group."""
    first, *others = comparison.groups
    parts = [others[i : i + _AT_ONCE - 1] for i in range(0, len(others), _AT_ONCE - 1)] or [[]]
    for part in parts:
        console.print(_table(comparison, [first, *part]))
    for group in comparison.groups:
        runs = len(group.runs)
        seeds = ", ".join(str(seed) for seed in group.seeds)
        words = f"{group.name}: {runs} {'run' if runs == 1 else 'runs'}, seed {seeds}"
        if runs > 1:
            words += f" (together by {group.by}; intervals over seeds)"
        console.print(Text(visible(words)), soft_wrap=True)
    if comparison.rare_tasks:
        console.print(
            Text(visible(f"rare tasks: {', '.join(comparison.rare_tasks)}")), soft_wrap=True
        )


def _table(comparison: Comparison, groups: list[Group]) -> Table:
    table = Table(
        title="scores and shares in % (95 % interval); differences to the first in points",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", min_width=14, overflow="fold")
    for group in groups:
        table.add_column(Text(visible(group.name)), justify="right", overflow="fold")
    is_in_tasks = False
    for measure in comparison.measures:
        if measure.key.startswith("task/") and not is_in_tasks:
            table.add_section()
            is_in_tasks = True
        cells = [_cell(group, measure) for group in groups]
        table.add_row(Text(visible(measure.title)), *cells)
    return table


def _cell(group: Group, measure: Measure) -> Text:
    figure = group.figures.get(measure.key)
    if figure is None:
        return Text(NOTHING)
    if not measure.is_share:
        return Text(value_text(figure, measure))
    text = Text(f"{percent(figure.value)} ({_short(figure.low)}–{_short(figure.high)})")
    difference = group.differences.get(measure.key)
    if difference is not None and measure.better:
        style = {"better": "green", "worse": "red"}.get(verdict(difference, measure), "dim")
        bounds = (_short(one, "+").replace("-", "−") for one in (difference.low, difference.high))
        text.append(f"\n{_mark(difference, measure)}{signed(difference.value)} ", style)
        text.append(f"({'…'.join(bounds)})", style)
    return text


def _short(share: float, sign: str = "") -> str:
    """A bound of an interval in per cent, three characters or so."""
    return format(100 * share, f"{sign}.1f" if abs(share) < 0.0995 else f"{sign}.0f")


def _mark(difference: Figure, measure: Measure) -> str:
    return {"better": "▲", "worse": "▼"}.get(verdict(difference, measure), "")


def value_text(figure: Figure, measure: Measure) -> str:
    """61.2 (58.0–64.3), or a plain number."""
    if measure.is_share:
        return f"{percent(figure.value)} ({between(figure)})"
    whole = float(figure.value).is_integer()
    return f"{figure.value:,.0f}" if whole else f"{figure.value:.3f}"


def difference_text(difference: Figure, measure: Measure) -> str:
    """▲ +3.1 (+0.2–+6.0): the arrow stands where the interval leaves 0 out, up for better."""
    mark = {"better": "▲ ", "worse": "▼ "}.get(verdict(difference, measure), "")
    if not measure.is_share:
        return f"{mark}{difference.value:+.3f}".replace("-", "−")
    return (
        f"{mark}{signed(difference.value)} ({signed(difference.low)} to {signed(difference.high)})"
    )


def verdict(difference: Figure, measure: Measure) -> str:
    """``better``, ``worse``, or ``""`` where the interval holds 0 or nothing is better or worse."""
    if not measure.better or not measure.is_share or difference.low <= 0 <= difference.high:
        return ""
    return "better" if (difference.value > 0) == (measure.better > 0) else "worse"
