"""User faults: what is wrong, where, which rule it breaks and what to do about it.

Everything a user can get wrong ends in a :class:`UserFault` that carries *all* faults found in one
pass. Broken invariants of our own are plain ``assert``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from data_modules.masking import masked_text


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        where: dotted configuration key or ``file:line``.
        seen: the value or text that was found there.
        rule: the rule it breaks, as a full clause.
        remedy: what the user can do.
    """

    where: str
    seen: str
    rule: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.seen}; {self.rule}."
        return f"{text} {self.remedy}" if self.remedy else text


class UserFault(ValueError):
    """One or more faults in the user's configuration or data, reported together; secrets masked."""

    def __init__(self, faults: Fault | Iterable[Fault]) -> None:
        self.faults: list[Fault] = [faults] if isinstance(faults, Fault) else list(faults)
        assert self.faults, "a UserFault needs at least one fault"
        count = len(self.faults)
        head = "1 fault" if count == 1 else f"{count} faults"
        told = "\n".join(f"  - {fault}" for fault in self.faults)
        super().__init__(masked_text(f"{head}:\n{told}"))

    def __reduce__(self) -> tuple[type[UserFault], tuple[list[Fault]]]:
        """Faults travel between ranks; the default would rebuild them from the message's letters."""
        return type(self), (self.faults,)


class ConfigFault(UserFault):
    """Faults in the composed configuration."""


class DataFault(UserFault):
    """Faults in data files or in what a phase asks of them."""
