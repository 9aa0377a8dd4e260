"""Settings of the whole test suite."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import settings

# Derandomised: a red run is red again. No deadline: the machines are busy.
settings.register_profile("polyphase", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("polyphase")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports travel between processes in UTF-8, where half a surrogate pair has no place."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
