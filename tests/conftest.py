"""Settings of the whole test suite."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

# Derandomised: a red run is red again. No deadline: the machines are busy.
settings.register_profile("polyphase", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("polyphase")


@pytest.fixture(autouse=True)
def log_of_one_test() -> Iterator[None]:
    """A command run inside the test process leaves its log open: on a file and a screen of that test."""
    logger = logging.getLogger("polyphase")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    yield
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports travel between processes in UTF-8, where half a surrogate pair has no place."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
