"""The benchmark's results in one picture: speed, memory, start-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_OURS, _LIMIT, _PEER = "C0", "0.75", "C1"


def draw(results: dict[str, Any], picture: Path) -> None:
    """Write a PNG.

    Args:
        results: as ``compare.summary`` makes them.
    """
    # Drawn off screen and imported late: importing matplotlib takes a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = results["contenders"]
    # settings of a peer that dropped out behind the first round are in the table alone
    most = max(one["rounds"] for one in table.values())
    shown = [name for name, one in table.items() if one["rounds"] == most]
    shown.sort(key=lambda name: table[name]["supervised_tokens_per_second"])
    colours = [
        _OURS if name == "polyphase" else _LIMIT if name.endswith("loop") else _PEER
        for name in shown
    ]
    figure = Figure(figsize=(12, 0.9 + 0.55 * len(shown)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        ("supervised tokens per second", "supervised_tokens_per_second", 1, "{:,.0f}"),
        ("peak memory of a rank, MB", "peak_bytes", 1e-6, "{:,.0f}"),
        ("command to end of first step, s", "startup_seconds", 1, "{:.1f}"),
    )
    for axes, (title, key, scale, text) in zip(
        figure.subplots(1, 3, sharey=True), panels, strict=True
    ):
        values = [table[name][key] * scale for name in shown]
        bars = axes.barh(shown, values, color=colours)
        axes.bar_label(bars, [text.format(value) for value in values], padding=3)
        axes.set_xlim(0, 1.2 * max(values))
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture)
