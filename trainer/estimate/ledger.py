"""Bytes of one rank as a step goes on, and the moment at which they are most."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Peak:
    """The most that was held at once.

    Attributes:
        when: the part of the run.
        parts: bytes by what they are for.
    """

    when: str = ""
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.parts.values())


class Ledger:
    """What is held on the device and in the host's memory, by purpose.

    Attributes:
        device, host: bytes held now.
        device_peak, host_peak: the most of each.
        peak: the most of both together; ranks without a GPU hold all of it in the host's memory.
    """

    def __init__(self) -> None:
        self.device: Counter[str] = Counter()
        self.host: Counter[str] = Counter()
        self.when = ""
        self.device_peak = self.host_peak = self.peak = Peak()

    def note(self, **passing: int) -> None:
        """Look at what is held now, together with what is there for a moment only, on the device."""
        device = self.device + Counter(passing)
        if device.total() > self.device_peak.total:
            self.device_peak = Peak(self.when, dict(device))
        if self.host.total() > self.host_peak.total:
            self.host_peak = Peak(self.when, dict(self.host))
        if device.total() + self.host.total() > self.peak.total:
            self.peak = Peak(self.when, dict(device + self.host))
