"""Steps' timelines as a picture: what the processor did when, from traces that ``profile=trace`` writes.

python benchmarks/timeline.py --out step.png before=/tmp/a/rank_0.json.gz after=/tmp/b/rank_0.json.gz

One panel a trace, one lane a kind of work, over the first whole step of the trace. An instant counts for
the innermost operation that runs on the training thread then; where none does, Python itself is at work or
waits.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

#: kind -> parts of names; the first that fits counts.
KINDS = {
    "communication": ("gloo", "nccl", "c10d", "all_reduce", "allreduce", "broadcast_"),
    "attention": ("scaled_dot_product", "flash_attention", "varlen"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::matmul", "aten::linear"),
    "loss": (
        "softmax",
        "log_softmax",
        "nll_loss",
        "cross_entropy",
        "gather",
        "scatter",
        "index_add",
    ),
    "optimizer": ("adam", "foreach_norm", "clip"),
}
OTHER, PYTHON = "other operations", "Python, or waiting"
LANES = [*KINDS, OTHER, PYTHON]

Span = tuple[float, float]


def kind_of(name: str) -> str:
    """What kind of work an operation is."""
    low = name.lower()
    return next((kind for kind, parts in KINDS.items() if any(p in low for p in parts)), OTHER)


def spans_of(path: Path, step: str) -> tuple[dict[str, list[Span]], float]:
    """Milliseconds from the step's start of every stretch of each kind, and the step's length."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        events = [one for one in json.load(file)["traceEvents"] if one.get("ph") == "X"]
    steps = sorted(
        (one for one in events if one["name"].startswith(step)), key=lambda one: float(one["ts"])
    )
    begin, length = float(steps[0]["ts"]), float(steps[0]["dur"])
    inside = [
        one
        for one in events
        if one.get("cat") == "cpu_op"
        and one["tid"] == steps[0]["tid"]
        and begin <= float(one["ts"]) < begin + length
    ]
    found: dict[str, list[Span]] = defaultdict(list)
    for start, end, name in _innermost(inside, begin, begin + length):
        kind = PYTHON if name is None else kind_of(name)
        found[kind].append(((start - begin) / 1e3, (end - start) / 1e3))
    return found, length / 1e3


def _innermost(
    events: list[Any], begin: float, end: float
) -> list[tuple[float, float, str | None]]:
    """The stretches between two changes, with the innermost event that spans each."""
    changes = []
    for number, one in enumerate(events):
        start = float(one["ts"])
        changes.append((start, 1, number))
        changes.append((start + float(one["dur"]), 0, number))
    changes.sort()
    stack: list[int] = []
    stretches: list[tuple[float, float, str | None]] = []
    at = begin
    for when, starts, number in changes:
        if when > at:
            stretches.append((at, when, events[stack[-1]]["name"] if stack else None))
            at = when
        if starts:
            stack.append(number)
        else:
            stack.remove(number)
    if end > at:
        stretches.append((at, end, None))
    return stretches


def draw(traces: dict[str, Path], step: str, picture: Path) -> dict[str, dict[str, float]]:
    """Write a PNG; milliseconds of each kind, by trace."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    read = {name: spans_of(path, step) for name, path in traces.items()}
    longest = max(length for _, length in read.values())
    figure = Figure(figsize=(13, 2.6 * len(read)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    totals = {}
    panels = figure.subplots(len(read), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, (spans, length)) in zip(panels, read.items(), strict=True):
        totals[name] = {kind: sum(span[1] for span in spans.get(kind, [])) for kind in LANES}
        for lane, kind in enumerate(reversed(LANES)):
            axes.broken_barh(spans.get(kind, []), (lane - 0.4, 0.8), facecolors=f"C{lane}", lw=0)
        axes.set_yticks(
            range(len(LANES)),
            [f"{kind}  {totals[name][kind]:,.0f} ms" for kind in reversed(LANES)],
        )
        axes.axvline(length, color="0.4", lw=1, ls="--")
        axes.set_title(f"{name}: a step of {length:,.0f} ms", loc="left")
        axes.set_xlim(0, 1.01 * longest)
    panels[-1].set_xlabel("milliseconds of the step")
    figure.savefig(picture)
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--step", default="step", help="what a step's event is called, or begins with"
    )
    options = parser.parse_args()
    traces = dict(one.split("=", 1) for one in options.traces)
    totals = draw({name: Path(path) for name, path in traces.items()}, options.step, options.out)
    print(json.dumps(totals, indent=1))


if __name__ == "__main__":
    main()
