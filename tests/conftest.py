"""Settings of the whole test suite."""

from __future__ import annotations

from hypothesis import settings

# Derandomised: a red run is red again. No deadline: the machines are busy.
settings.register_profile("polyphase", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("polyphase")
