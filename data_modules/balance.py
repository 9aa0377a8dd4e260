"""Balance: how many rows of each task one epoch of a phase draws.

==============  ==================================================================================
``natural``     ``n_i``
``caps``        ``min(max(n_i, min_rows), max_rows)``; with ``rows``, the smallest are raised evenly
                or the largest lowered until the epoch has ``B``, all staying between the two
``weights``     ``B * w_i / sum w``
``temperature`` ``B * q_i / sum q`` with ``q_i = min(n_i, size_limit) ** (1 / temperature)``
``unimax``      ``B`` filled evenly, no task above ``max_repeats * n_i / epochs`` (Chung et al. 2023)
``axes``        ``B * p_i / sum p`` with ``p_i = quantity_i * quality_i * difficulty_i * importance_i``
==============  ==================================================================================

``n_i`` are a task's rows and ``B`` is ``balance.rows``, or all rows of the tasks. The factors of
``axes`` are ``q_i``, ``quality_i ** a``, ``difficulty_i ** b`` and the importance; each is scaled to
mean 1 over the tasks and clipped to [1/4, 4] before they are multiplied, so that none of them can
decide alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_modules.faults import DataFault, Fault
from data_modules.mixture import BalanceConfig, Strategy

AXES = ("quantity", "quality", "difficulty", "importance")
FACTOR_RANGE = (0.25, 4.0)


@dataclass(frozen=True)
class TaskFigures:
    """What balance knows of a task.

    Attributes:
        rows: rows that can be drawn.
        once: rows that can be drawn before one of them comes twice; less than ``rows`` where
            sources weigh differently. None: all rows.
        quality: mean quality score of the rows.
        difficulty: the higher the harder; None where nobody said.
    """

    rows: int
    once: float | None = None
    quality: float = 1.0
    difficulty: float | None = None


@dataclass(frozen=True)
class EpochRows:
    """Rows of an epoch.

    Attributes:
        rows: task -> rows, not yet whole numbers; the asked share is each one's part of their sum.
        asked: rows that the epoch was to have; more than the sum of ``rows`` only where ``unimax``
            ran out of rows that may still be repeated.
        factors: of ``axes``: task -> axis -> factor.
    """

    rows: dict[str, float]
    asked: float
    factors: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Rows of the epoch."""
        return sum(self.rows.values())


def apportion(
    total: int, shares: Mapping[str, float], at_most: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Split ``total`` rows by ``shares``, each within one row of its exact part.

    Largest-remainder (Hamilton) method; ties go to the alphabetically first name, so the result
    does not depend on the order of the mapping.

    Args:
        at_most: most rows of some names; what they leave goes to the others by their shares. When
            every name is at its most, the sum stays below ``total``.
    """
    at_most = at_most or {}
    fixed: dict[str, int] = {}
    while len(fixed) < len(shares):
        free = {name: share for name, share in shares.items() if name not in fixed}
        counts = _largest_remainder(total - sum(fixed.values()), free)
        over = [name for name, count in counts.items() if count > at_most.get(name, count)]
        fixed |= {name: at_most[name] for name in over}
        if not over:
            fixed |= counts
    return {name: fixed[name] for name in shares}


def _largest_remainder(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    weight = sum(shares.values())
    exact = {name: total * share / weight for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    left = total - sum(counts.values())
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[:left]:
        counts[name] += 1
    return counts


def water_fill(budget: float, caps: Mapping[str, float]) -> dict[str, float]:
    """Share ``budget`` out evenly, none above its cap; what a cap leaves goes to the others."""
    filled: dict[str, float] = {}
    for place, name in enumerate(sorted(caps, key=lambda one: (caps[one], one))):
        filled[name] = min(budget / (len(caps) - place), caps[name])
        budget -= filled[name]
    return {name: filled[name] for name in caps}


def with_shares(main: float, shares: Mapping[str, float]) -> dict[str, int]:
    """Rows to add beside ``main`` rows so that each named share of the *whole* is met.

    With share r of the whole, the added rows are ``main * r / (1 - sum of shares)``.
    """
    rest = 1.0 - sum(shares.values())
    assert rest > 0, "shares are validated to leave room for the phase's own tasks"
    return {name: round(main * share / rest) for name, share in shares.items()}


def epoch_rows(
    tasks: Mapping[str, TaskFigures], balance: BalanceConfig, epochs: float = 1.0
) -> EpochRows:
    """Rows of each task in one epoch of a phase of ``epochs`` epochs."""
    sizes = {task: float(one.rows) for task, one in tasks.items()}
    strategy = balance.strategy
    if strategy is Strategy.natural:
        return EpochRows(sizes, _sum(sizes))
    if strategy is Strategy.caps:
        low = balance.min_rows or 0
        high = math.inf if balance.max_rows is None else max(balance.max_rows, low)
        sizes = {task: float(min(max(rows, low), high)) for task, rows in sizes.items()}
        return EpochRows(_levelled(sizes, balance.rows, low, high), balance.rows or _sum(sizes))
    budget = float(balance.rows or _sum(sizes))
    if strategy is Strategy.unimax:
        most = row_limits(tasks, balance)
        caps = {task: most[task] / epochs if epochs else math.inf for task in tasks}
        return EpochRows(water_fill(budget, caps), budget)
    factors: dict[str, dict[str, float]] = {}
    if strategy is Strategy.weights:
        shares = {task: balance.weights[task] for task in tasks}
    elif strategy is Strategy.temperature:
        shares = _quantity(tasks, balance)
    else:
        assert strategy is Strategy.axes
        factors = axis_factors(tasks, balance)
        shares = {task: math.prod(factors[task].values()) for task in tasks}
    whole = sum(shares.values())
    rows = {task: budget * share / whole for task, share in shares.items()}
    return EpochRows(rows, budget, factors)


def _sum(sizes: Mapping[str, float]) -> float:
    return sum(sizes.values())


def _levelled(
    sizes: Mapping[str, float], budget: float | None, low: float, high: float
) -> dict[str, float]:
    """Sizes whose sum is ``budget``, if ``low`` and ``high`` allow it: a floor or a ceiling is moved."""
    if budget is None:
        return dict(sizes)
    if budget < _sum(sizes):
        filled = water_fill(budget, sizes)
        return {task: max(rows, min(low, sizes[task])) for task, rows in filled.items()}
    # The floor that gives the budget is water poured over the sizes turned upside down.
    top = max(sizes.values()) if high == math.inf else high
    gaps = {task: top - rows for task, rows in sizes.items()}
    spare = water_fill(max(0.0, top * len(sizes) - budget), gaps)
    return {task: top - spare[task] for task in sizes}


def row_limits(tasks: Mapping[str, TaskFigures], balance: BalanceConfig) -> dict[str, int]:
    """Most rows of each task over a whole phase under ``unimax``; none under other strategies."""
    if balance.strategy is not Strategy.unimax:
        return {}
    once = {task: one.rows if one.once is None else one.once for task, one in tasks.items()}
    # 1e-9: 3 rows that may come 0.1 / 0.3 times are one, not 0.99... rounded down
    return {task: int(balance.max_repeats * rows + 1e-9) for task, rows in once.items()}


def axis_factors(
    tasks: Mapping[str, TaskFigures], balance: BalanceConfig
) -> dict[str, dict[str, float]]:
    """Task -> axis -> factor of ``strategy: axes``; 1 for all where difficulty is not known."""
    known = all(one.difficulty is not None for one in tasks.values())
    columns = {
        "quantity": _quantity(tasks, balance),
        "quality": {task: one.quality**balance.quality for task, one in tasks.items()},
        "difficulty": {
            task: float(one.difficulty or 0.0) ** balance.difficulty if known else 1.0
            for task, one in tasks.items()
        },
        "importance": {task: balance.importance.get(task, 1.0) for task in tasks},
    }
    scaled = {axis: _mean_one(columns[axis]) for axis in AXES}
    return {task: {axis: scaled[axis][task] for axis in AXES} for task in tasks}


def _quantity(tasks: Mapping[str, TaskFigures], balance: BalanceConfig) -> dict[str, float]:
    limit = balance.size_limit or math.inf
    return {task: min(one.rows, limit) ** (1 / balance.temperature) for task, one in tasks.items()}


def _mean_one(values: Mapping[str, float]) -> dict[str, float]:
    mean = sum(values.values()) / len(values)
    low, high = FACTOR_RANGE
    # All zero: they say nothing about the tasks' order.
    return {
        name: min(max(value / mean, low), high) if mean else 1.0 for name, value in values.items()
    }


def difficulties(
    balance: BalanceConfig, tasks: tuple[str, ...], where: str
) -> dict[str, float | None]:
    """Difficulty of every task: given, read from ``difficulty_from``, or None.

    Args:
        where: dotted key of the balance, for messages.

    Raises:
        DataFault: ``difficulty_from`` is no ``evaluation.json`` or lacks a task.
    """
    if balance.strategy is not Strategy.axes:
        return dict.fromkeys(tasks)
    if balance.difficulty_from is None:
        return {task: balance.difficulty_of.get(task) for task in tasks}
    return dict(_evaluated(Path(balance.difficulty_from), tasks, f"{where}.difficulty_from"))


def _evaluated(path: Path, tasks: tuple[str, ...], where: str) -> dict[str, float]:
    rule = "difficulty is 1 - score, or the loss, of every task of the phase"
    remedy = "Name the evaluation.json of a run on these tasks, or set difficulty_of instead."
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        seen = f"{path} cannot be read as an evaluation ({error!r})"
        raise DataFault(Fault(where, seen, rule, remedy)) from error
    score = {task: _score(entries, task) for task in tasks}
    loss = {task: _figure(entries, task, "loss") for task in tasks}
    if all(one is not None for one in score.values()):
        return {task: 1.0 - one for task, one in score.items() if one is not None}
    missing = sorted(task for task, one in loss.items() if one is None)
    if missing:
        seen = f"{path} has no loss of {', '.join(missing)}"
        raise DataFault(Fault(where, seen, rule, remedy))
    return {task: one for task, one in loss.items() if one is not None}


def _score(entries: Any, task: str) -> float | None:
    """The task's main metric on the ordinary prompts; None where it was not judged."""
    try:
        by_metric = entries[task]["sets"]["ordinary"]["processed"]
        return _figure(by_metric, entries[task]["metric"], "value")
    except (KeyError, TypeError):
        return None


def _figure(entries: object, task: str, name: str) -> float | None:
    entry = entries.get(task) if isinstance(entries, dict) else None
    value = entry.get(name) if isinstance(entry, dict) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
