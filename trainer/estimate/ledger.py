"""Bytes of one rank as a step goes on, and the moments at which they are most."""

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


@dataclass(frozen=True)
class Arrived:
    """A gradient that is there.

    Attributes:
        weight: its index.
        live: bytes of activations and temporaries beside it.
        gathered: bytes of whole weights that ZeRO-3 holds.
        micro: micro-step of the optimizer step; later ones add to the first.
    """

    weight: int
    live: int
    gathered: int
    micro: int


class Ledger:
    """What is held on the device and in the host's memory, by purpose.

    Attributes:
        device, host: bytes held now.
        when: the part of the run that goes on.
    """

    def __init__(self) -> None:
        self.device: Counter[str] = Counter()
        self.host: Counter[str] = Counter()
        self.when = ""
        self._device: dict[str, Peak] = {}
        self._host: dict[str, Peak] = {}
        self._both: dict[str, Peak] = {}

    def note(self, **passing: int) -> None:
        """Look at what is held now, together with what is there for a moment only, on the device."""
        device = self.device + Counter(passing)
        self._take(self._device, device)
        self._take(self._host, self.host)
        self._take(self._both, device + self.host)

    def note_host(self, passing: int) -> None:
        """Look at it together with what is in the host's memory for a moment only."""
        self.host["temporary"] += passing
        self.note()
        del self.host["temporary"]

    def _take(self, peaks: dict[str, Peak], now: Counter[str]) -> None:
        if self.when not in peaks or now.total() > peaks[self.when].total:
            peaks[self.when] = Peak(self.when, dict(now))

    def device_in(self, when: str) -> Peak:
        """The most on the device in a part of the run."""
        return self._device.get(when, Peak(when))

    @property
    def device_peak(self) -> Peak:
        """The most on the device."""
        return _most(self._device)

    @property
    def host_peak(self) -> Peak:
        """The most in the host's memory."""
        return _most(self._host)

    @property
    def peak(self) -> Peak:
        """The most of both together: ranks without a GPU hold all of it in the host's memory."""
        return _most(self._both)


def _most(peaks: dict[str, Peak]) -> Peak:
    return max(peaks.values(), key=lambda one: one.total, default=Peak())
