"""The main charts as PNG files, for slides, logs and Weights & Biases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from data_modules.report.visible import visible
from trainer.evaluation.results import Crosstalk, Evaluation
from trainer.report.curves import binned, smoothed
from trainer.report.headline import score_of
from trainer.report.training import mixture
from trainer.run_directory import RunDirectory
from trainer.run_facts import RunFacts
from trainer.summary import special_first

_NAMES = ("scores", "crosstalk", "losses", "mixture")
_CHINESE = (
    *("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "Microsoft YaHei"),
    *("PingFang SC", "SimHei", "Droid Sans Fallback"),
)
_LABEL = 24  # characters of a task's name
_LABELLED = 12  # curves up to this many get a label of their own
_CELLS = 22  # a table up to this wide has its values written in
_DPI = 110
_OWN, _OTHER = (0.45, 0.65, 0.93), (0.9, 0.42, 0.18)  # red, green, blue
_APART = 0.042  # of the height of a chart: labels of curves do not meet


def chart_files(run: RunDirectory) -> dict[str, Path]:
    """Name -> PNG of the charts that a run has: ``scores``, ``crosstalk``, ``losses``, ``mixture``."""
    found = {name: run.root / "charts" / f"{name}.png" for name in _NAMES}
    return {name: path for name, path in found.items() if path.is_file()}


def draw_charts(facts: RunFacts) -> dict[str, Path]:
    """Draw what the run has figures for, in place of earlier pictures."""
    for path in chart_files(facts.directory).values():
        path.unlink()
    with fonts():
        _draw_all(facts)
    return chart_files(facts.directory)


def _draw_all(facts: RunFacts) -> None:
    last = facts.last
    if last is not None and any(score_of(last, task) for task in last.tasks):
        _save(facts, "scores", _scores(facts, last))
    if last is not None and last.crosstalk:
        _save(facts, "crosstalk", _crosstalk(last))
    if facts.steps:
        _save(facts, "losses", _losses(facts))
    if facts.plan["phases"]:
        _save(facts, "mixture", _mixture(facts))


def new_figure(width: float, height: float) -> Any:
    """A figure that is drawn off screen."""
    # Imported late: matplotlib takes a second that no other command needs.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def fonts() -> AbstractContextManager[None]:
    """While it lasts, names are drawn with a font of the machine that has Chinese, where it has one."""
    import matplotlib
    from matplotlib import font_manager

    known = set(font_manager.get_font_names())
    found = [name for name in _CHINESE if name in known]
    return matplotlib.rc_context({"font.family": ["DejaVu Sans", *found[:1]]})


def short(name: str) -> str:
    """A name as it fits beside a chart."""
    return visible(name if len(name) <= _LABEL else f"{name[:_LABEL]}…")


def name_ticks(axis: Any, names: Sequence[str], rotation: int = 0) -> None:
    """Names along an axis, as they are: no markup, nothing invisible, not too long."""
    axis.set_ticks(range(len(names)), [short(name) for name in names])
    for label in axis.get_ticklabels():
        label.set_parse_math(False)
        label.set_rotation(rotation)


def heat(axes: Any, grid: Sequence[Sequence[float]]) -> None:
    """A table of shares in per cent, values written in where there is room; NaN stays empty."""
    axes.imshow(grid, aspect="auto", cmap="cividis", vmin=0, vmax=100)
    if len(grid[0]) > _CELLS:
        return
    for row, line in enumerate(grid):
        for column, value in enumerate(line):
            if value == value:
                colour = "w" if value < 50 else "k"
                # a format would round half to even: 24.5 down, 25.5 up
                text = str(math.floor(value + 0.5))
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def _save(facts: RunFacts, name: str, figure: Any) -> None:
    path = facts.directory.root / "charts" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _scores(facts: RunFacts, last: Evaluation) -> Any:
    tasks = special_first(last, [task for task in last.tasks if score_of(last, task)])
    columns = list(facts.evaluations)
    figure = new_figure(10, 1.4 + 0.3 * len(tasks))
    left, right = figure.subplots(1, 2, sharey=True)
    grid = [[_percent(score_of(one, task)) for one in facts.evaluations.values()] for task in tasks]
    heat(left, grid)
    name_ticks(left.yaxis, tasks)
    name_ticks(left.xaxis, columns)
    left.set_title("score, %")
    for row, task in enumerate(tasks):
        found = score_of(last, task)
        assert found is not None, "these tasks have a score"
        right.plot([100 * found.low, 100 * found.high], [row, row], color="0.55", lw=3)
        right.plot([100 * found.value], [row], "o", color="C0", ms=6)
    right.set_xlim(0, 100)
    right.grid(axis="x", color="0.9")
    right.set_title("after the last phase, 95 % interval")
    return figure


def _crosstalk(last: Evaluation) -> Any:
    sets = list(last.crosstalk)
    tasks = last.crosstalk[sets[0]].tasks
    columns = min(2, len(sets))
    lines = -(-len(sets) // columns)
    side = 2.2 + 0.28 * len(tasks)
    figure = new_figure(columns * (side + 1.2), lines * side)
    grids = figure.subplots(lines, columns, squeeze=False)
    for axes in grids.flat[len(sets) :]:
        axes.set_axis_off()
    for axes, name in zip(grids.flat, sets, strict=False):
        found = last.crosstalk[name]
        _leak_map(axes, found)
        name_ticks(axes.yaxis, found.tasks)
        name_ticks(axes.xaxis, found.labels, 90)
        rate = found.rate
        axes.set_title(
            f"{name}: {100 * rate.value:.1f} % ({100 * rate.low:.1f}–{100 * rate.high:.1f})"
        )
        axes.set_ylabel("asked")
        axes.set_xlabel("answers behave like, %")
    return figure


def _leak_map(axes: Any, found: Crosstalk) -> None:
    """Shares of answers: the own behaviour blue, others orange; the root shows small ones."""
    import numpy as np

    shares = np.array(found.matrix)
    is_own = np.array([[task == label for label in found.labels] for task in found.tasks])
    strength = np.where(is_own, shares, np.sqrt(shares))[..., None]
    colour = np.where(is_own[..., None], _OWN, _OTHER)
    axes.imshow(1 - strength * (1 - colour), aspect="auto")
    if len(found.labels) > _CELLS:
        return
    for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
        text = f"{100 * shares[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8)


def _losses(facts: RunFacts) -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    figure = new_figure(12, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.margins(x=0)
    last = float(facts.steps[-1]["step"])
    tasks = sorted({k[5:] for entry in facts.steps for k in entry if k.startswith("loss/")})
    ends: list[tuple[float, str, str]] = []
    for number, task in enumerate(tasks):
        points = binned(facts.steps, f"loss/{task}", f"tokens/{task}", 80, last)
        points = smoothed(points, 0.6)
        # the ten usual colours, then their pale ones
        shade = to_hex(colormaps["tab20"](number % 10 * 2 + number // 10 % 2))
        colour = shade if len(tasks) <= _LABELLED else "0.7"
        upper.plot(*zip(*points, strict=True), lw=1, color=colour)
        ends.append((points[-1][1], short(task), colour))
    whole = smoothed(binned(facts.steps, "loss", "tokens", 240, last), 0.85)
    upper.plot(*zip(*whole, strict=True), lw=2.2, color="k")
    upper.set_ylim(bottom=0)
    if len(tasks) <= _LABELLED:
        _label_ends(upper, ends)
    upper.set_title("training loss, nats per answer token (black: all tasks; thin: each task)")
    rates = binned(facts.steps, "lr", None, 240, last)
    lower.plot(*zip(*rates, strict=True), color="C1")
    lower.set_ylim(bottom=0)
    lower.set_title("learning rate")
    lower.set_xlabel("step")
    seen: dict[str, int] = {}
    for entry in facts.steps:
        seen.setdefault(str(entry["phase"]), int(entry["step"]))
    for name, step in seen.items():
        for axes in (upper, lower):
            axes.axvline(step, color="0.8", lw=0.8, ls="--", zorder=0)
        upper.annotate(
            name, (step, 0.99), xycoords=("data", "axes fraction"), va="top"
        ).set_parse_math(False)
    return figure


def _label_ends(axes: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Curves' names at their right ends, the lowest first and each clear of the one below."""
    top = axes.get_ylim()[1]
    at = -_APART
    for value, name, colour in sorted(ends):
        at = max(value / top, at + _APART)
        axes.annotate(
            name,
            (1.01, at),
            xycoords="axes fraction",
            va="center",
            color=colour,
            fontsize=8,
            annotation_clip=False,
        ).set_parse_math(False)


def _mixture(facts: RunFacts) -> Any:
    phases = mixture(facts)["phases"]
    tasks = list(dict.fromkeys(one["name"] for phase in phases for one in phase["tasks"]))
    figure = new_figure(3 + 3 * len(phases), 1.4 + 0.32 * len(tasks))
    grid = figure.subplots(1, len(phases), sharey=True, squeeze=False)[0]
    for axes, phase in zip(grid, phases, strict=True):
        shares = {one["name"]: one for one in phase["tasks"]}
        for offset, key, colour in ((-0.18, "rows", "0.65"), (0.18, "tokens", "C0")):
            values = [100 * shares[task][key] if task in shares else 0.0 for task in tasks]
            places = [row + offset for row in range(len(tasks))]
            axes.barh(places, values, 0.34, color=colour, label=key)
        for row, task in enumerate(tasks):
            if task in shares:
                asked = 100 * shares[task]["asked"]
                axes.plot([asked, asked], [row - 0.4, row + 0.4], color="k", lw=1.5)
        axes.set_title(short(phase["name"]), parse_math=False)
        axes.set_xlabel("% (line: rows asked for)")
    grid[0].set_ylim(len(tasks) - 0.5, -0.5)
    name_ticks(grid[0].yaxis, tasks)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _percent(figure: Any) -> float:
    return float("nan") if figure is None else 100 * figure.value
