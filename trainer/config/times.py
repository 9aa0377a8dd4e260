"""Lengths of time as people write them."""

from __future__ import annotations

import re

_CLOCK = re.compile(r"(?:(\d{1,6})-)?(\d{1,6}):([0-5]?\d):([0-5]?\d)")


def wall_seconds(text: str) -> float:
    """Seconds of ``[days-]hours:minutes:seconds``.

    SLURM's shorter forms are refused: ``30:00`` means minutes to it, and hours to most people.

    Raises:
        ValueError: it is not written so.
    """
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not [days-]hours:minutes:seconds")
    days, hours, minutes, seconds = (int(one or 0) for one in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
