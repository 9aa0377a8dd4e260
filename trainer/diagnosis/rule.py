"""What a rule of the diagnosis is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from trainer.diagnosis.finding import Finding
from trainer.diagnosis.reading import Reading


class Rule(ABC):
    """One illness, and how a run shows it.

    Thresholds are class attributes of the rules. A difference counts only where its 95 % interval
    excludes chance.
    """

    #: Short name, as in ``Finding.rule``.
    name: ClassVar[str]
    #: What it looks at, for people.
    looks_at: ClassVar[str]

    def missing(self, run: Reading) -> str:  # noqa: ARG002 - most rules need what every run has
        """Why this run cannot be checked; "" where it can."""
        return ""

    @abstractmethod
    def check(self, run: Reading) -> list[Finding]:
        """What is wrong; asked only where nothing is missing."""
