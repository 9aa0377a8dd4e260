"""Code judged by running it, confined; see ``trainer.evaluation.sandbox``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from data_modules.cleaning.code_signs import parses_as_python
from data_modules.unification import split_fences
from trainer.evaluation import sandbox
from trainer.evaluation.metrics.base import UNJUDGED, Judged

#: A program and its assertions; "" are none.
Run = tuple[str, str]


class _CodeMetric:
    """Mean over rows of whether a program does what it should. Subclasses say how that is found out."""

    name: str

    def check_machine(self) -> None:
        """Raise ConfigFault where programs cannot be confined."""
        sandbox.check_limits()

    def statistics(self, rows: Sequence[Judged]) -> np.ndarray:
        """0, 1 or NaN: [rows, 1]; a cut answer has 0. All programs run side by side."""
        _RESULTS.run(run for row in rows for run in self.runs(row))
        return np.array([self.score(row) for row in rows], dtype=np.float64).reshape(-1, 1)

    def value(self, sums: np.ndarray, n: np.ndarray) -> np.ndarray:
        """The mean."""
        mean: np.ndarray = sums[..., 0] / n
        return mean

    def runs(self, row: Judged) -> list[Run]:
        """What :meth:`score` needs to have been run."""
        raise NotImplementedError

    def score(self, row: Judged) -> float:
        """0, 1 or UNJUDGED, once the row's programs have run."""
        raise NotImplementedError


class CodeTests(_CodeMetric):
    """Whether a row's assertions hold after its answer has run: pass@1 of one greedy answer.

    The assertions are the row's ``tests``, else lines of the request that are ``assert`` statements
    ("The code should pass this test: assert f(2) == 4"), which the model has seen. Rows with neither, or
    with tests that cannot be read, are not judged.
    """

    name = "code_tests"

    def runs(self, row: Judged) -> list[Run]:
        """The answer with the tests."""
        tests = tests_of(row)
        return [(program_of(row.answer), tests)] if tests and row.finished else []

    def score(self, row: Judged) -> float:
        """Whether it passes."""
        if not tests_of(row):
            return UNJUDGED
        return float(all(_RESULTS[run] is not None for run in self.runs(row)) and row.finished)


class CodeOutput(_CodeMetric):
    """Whether an answer, run as a Python program, prints what the gold answer prints.

    Blanks at line ends and empty lines at the end do not count. Rows whose gold answer is no Python
    program that runs, or one that prints nothing, are not judged: there is nothing to compare.
    """

    name = "code_output"

    def runs(self, row: Judged) -> list[Run]:
        """Both, as far as they are Python."""
        gold, answer = program_of(row.gold), program_of(row.answer)
        if not parses_as_python(gold):
            return []
        asked = row.finished and parses_as_python(answer)
        return [(gold, ""), (answer, "")] if asked else [(gold, "")]

    def score(self, row: Judged) -> float:
        """Whether they print the same."""
        printed = [_RESULTS[run] for run in self.runs(row)]
        if not printed or not printed[0]:
            return UNJUDGED
        return float(len(printed) == 2 and printed[0] == printed[1])


class CodeCorrect(_CodeMetric):
    """``code_tests`` where a row has tests, ``code_output`` elsewhere."""

    name = "code_correct"

    def __init__(self) -> None:
        self._tests, self._output = CodeTests(), CodeOutput()

    def runs(self, row: Judged) -> list[Run]:
        """As the metric that judges the row."""
        return (self._tests if tests_of(row) else self._output).runs(row)

    def score(self, row: Judged) -> float:
        """As the metric that judges the row."""
        return (self._tests if tests_of(row) else self._output).score(row)


def tests_of(row: Judged) -> str:
    """The assertions of a row, or those that its request shows; "" if none that can be read."""
    tests = row.tests
    if not tests.strip():
        lines = [line.strip() for line in row.request.split("\n")]
        shown = [line for line in lines if line.startswith("assert ")]
        tests = "\n".join(line for line in shown if not sandbox.tests_fault(line))
    return "" if sandbox.tests_fault(tests) else tests


def program_of(text: str) -> str:
    """The program that a text is: what is in its fence where all of it is one, else the text."""
    pieces = split_fences(text.strip())
    if len(pieces) != 1 or not pieces[0][0]:
        return text
    lines = pieces[0][1].split("\n")[1:]
    return "\n".join(lines[:-1] if lines and lines[-1].strip()[:3] in ("```", "~~~") else lines)


class _Results:
    """What programs that ran printed, by a digest of program and tests.

    Kept because an answer is asked about several times: raw and processed, as a figure and by row.
    """

    def __init__(self) -> None:
        self._printed: dict[str, str | None] = {}

    def __getitem__(self, run: Run) -> str | None:
        """A digest of what it printed, "" for nothing; None where it or its tests failed."""
        return self._printed[_digest(*run)]

    def run(self, wanted: Iterable[Run]) -> None:
        """Run those that have not been run."""
        new = {_digest(*run): run for run in wanted}
        new = {key: run for key, run in new.items() if key not in self._printed}
        tested = {key: run for key, run in new.items() if run[1]}
        plain = {key: run[0] for key, run in new.items() if not run[1]}
        if tested:
            programs, tests = zip(*tested.values(), strict=True)
            self._keep(tested, sandbox.run_many(programs, tests=tests))
        if plain:
            self._keep(plain, sandbox.run_many(list(plain.values())))

    def _keep(self, keys: Iterable[str], outcomes: Sequence[sandbox.Outcome]) -> None:
        for key, outcome in zip(keys, outcomes, strict=True):
            lines = [line.rstrip() for line in outcome.stdout.split("\n")]
            printed = "\n".join(lines).rstrip("\n")
            self._printed[key] = (printed and _digest(printed)) if outcome.ok else None


def _digest(*texts: str) -> str:
    return hashlib.sha256(repr(texts).encode()).hexdigest()


_RESULTS = _Results()
