"""Rules of single values that several checks of the configuration share."""

from __future__ import annotations

from data_modules.faults import Fault


def at_least(key: str, value: float | None, low: float, faults: list[Fault]) -> None:
    """``value``, where it is given, must not be below ``low``."""
    if value is not None and not value >= low:  # a NaN is not either
        faults.append(Fault(key, f"{value:g}", f"it must be at least {low:g}"))


def above_zero(key: str, value: float | None, faults: list[Fault], remedy: str = "") -> None:
    """``value``, where it is given, must be positive."""
    if value is not None and not value > 0:
        faults.append(Fault(key, f"{value:g}", "it must be above 0", remedy))


def share(key: str, value: float, faults: list[Fault], below_one: bool = False) -> None:
    """``value`` must lie in [0, 1], or with ``below_one`` in [0, 1)."""
    if not 0 <= value <= 1 or (below_one and value == 1):
        faults.append(Fault(key, f"{value:g}", f"it must be in [0, 1{')' if below_one else ']'}"))
