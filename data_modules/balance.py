"""Balance: how many rows of each task one epoch of a phase draws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_modules.mixture import BalanceConfig, Strategy


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Split ``total`` rows by ``shares``, each within one row of its exact part.

    Largest-remainder (Hamilton) method; ties go to the alphabetically first name, so the result
    does not depend on the order of the mapping.
    """
    weight = sum(shares.values())
    exact = {name: total * share / weight for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    left = total - sum(counts.values())
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[:left]:
        counts[name] += 1
    return counts


def epoch_rows(available: Mapping[str, int], balance: BalanceConfig) -> dict[str, int]:
    """Rows of each task in one epoch, given the rows that exist."""
    if balance.strategy is Strategy.natural:
        return dict(available)
    if balance.strategy is Strategy.caps:
        low = balance.min_rows or 0
        high = balance.max_rows if balance.max_rows is not None else max(available.values())
        return {task: min(max(rows, low), max(high, low)) for task, rows in available.items()}
    assert balance.strategy is Strategy.weights
    shares = {task: balance.weights[task] for task in available}
    return apportion(sum(available.values()), shares)


def with_shares(main: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Rows to add beside ``main`` rows so that each named share of the *whole* is met.

    With share r of the whole, the added rows are ``main * r / (1 - sum of shares)``.
    """
    rest = 1.0 - sum(shares.values())
    assert rest > 0, "shares are validated to leave room for the phase's own tasks"
    return {name: round(main * share / rest) for name, share in shares.items()}


def draw(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``count`` of ``rows``: without replacement as long as possible.

    Every row appears ``count // n`` or ``count // n + 1`` times, so down-sampling never repeats a
    row and up-sampling repeats all of them evenly.
    """
    times, extra = divmod(count, len(rows))
    return np.concatenate([np.tile(rows, times), rng.permutation(rows)[:extra]])
