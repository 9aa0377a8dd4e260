"""Code judged by running it, confined; see ``trainer.evaluation.sandbox``."""

from __future__ import annotations

from functools import lru_cache

from data_modules.cleaning.code_signs import parses_as_python
from data_modules.unification import split_fences
from trainer.evaluation import sandbox
from trainer.evaluation.metrics.base import UNJUDGED, Judged, RowMetric


class _Runs(RowMetric):
    """A metric that runs programs; making one on a machine that cannot confine them is a fault."""

    def __init__(self) -> None:
        sandbox.check_limits()


class CodeTests(_Runs):
    """Whether a row's assertions hold after its answer has run: pass@1 of one greedy answer.

    The assertions are the row's ``tests``, else lines of the request that are ``assert`` statements
    ("The code should pass this test: assert f(2) == 4"), which the model has seen. Rows with neither are
    not judged.
    """

    name = "code_tests"

    def score(self, row: Judged) -> float:
        """0 or 1; a cut answer has 0."""
        tests = tests_of(row)
        if not tests:
            return UNJUDGED
        return float(row.finished and _passes(program_of(row.answer), tests))


class CodeOutput(_Runs):
    """Whether an answer, run as a Python program, prints what the gold answer prints.

    Blanks at line ends and empty lines at the end do not count. Rows whose gold answer is no Python
    program that runs, or one that prints nothing, are not judged: there is nothing to compare.
    """

    name = "code_output"

    def score(self, row: Judged) -> float:
        """0 or 1; a cut answer has 0."""
        expected = _printed(program_of(row.gold))
        if not expected:
            return UNJUDGED
        return float(row.finished and _printed(program_of(row.answer)) == expected)


class CodeCorrect(_Runs):
    """``code_tests`` where a row has tests, ``code_output`` elsewhere."""

    name = "code_correct"

    def __init__(self) -> None:
        super().__init__()
        self._tests, self._output = CodeTests(), CodeOutput()

    def score(self, row: Judged) -> float:
        """0 or 1; a cut answer has 0."""
        return (self._tests if tests_of(row) else self._output).score(row)


def tests_of(row: Judged) -> str:
    """The assertions of a row, or those that its request shows; "" if none."""
    if row.tests.strip():
        return row.tests
    lines = [line.strip() for line in row.request.split("\n")]
    return "\n".join(
        line for line in lines if line.startswith("assert ") and parses_as_python(line)
    )


def program_of(text: str) -> str:
    """The program that a text is: what is in its fence where all of it is one, else the text."""
    pieces = split_fences(text.strip())
    if len(pieces) != 1 or not pieces[0][0]:
        return text
    lines = pieces[0][1].split("\n")[1:]
    return "\n".join(lines[:-1] if lines and lines[-1].strip()[:3] in ("```", "~~~") else lines)


# Raw and processed answers are mostly the same program, and every metric asks twice.
@lru_cache(maxsize=4096)
def _passes(program: str, tests: str) -> bool:
    return sandbox.run_tests(program, tests).ok


@lru_cache(maxsize=4096)
def _printed(program: str) -> str | None:
    """What a program prints, without what does not count; None where it does not run."""
    if not parses_as_python(program):
        return None
    outcome = sandbox.run_python(program)
    if not outcome.ok:
        return None
    return "\n".join(line.rstrip() for line in outcome.stdout.split("\n")).rstrip("\n")
