"""Code metrics: what is run, against what, and which rows they leave out."""

from __future__ import annotations

import pytest

from tests.shared_judged import judged, score
from trainer.evaluation import sandbox
from trainer.evaluation.metrics import code, figure, metric

SQUARE = "def square(x):\n    return x * x"
TESTS = "assert square(3) == 9\nassert square(-1) == 1"
ASKS = "Write a function.\nThe code should pass this test:\nassert square(3) == 9"


@pytest.mark.parametrize(
    ("answer", "request_text", "tests", "value"),
    [
        (SQUARE, "", TESTS, 1),
        (f"```python\n{SQUARE}\n```", "", TESTS, 1),
        (f"Sure:\n```python\n{SQUARE}\n```", "", TESTS, 0),  # what post-processing is for
        ("def square(x):\n    return 9", "", TESTS, 0),
        ("import sys\nsys.exit(0)", "", TESTS, 0),
        ("", "", TESTS, 0),
        ("I cannot.", "", TESTS, 0),
        (SQUARE, ASKS, "", 1),
        ("def square(x):\n    return 8", ASKS, "", 0),
        (SQUARE, "Write a function.", "", None),
        (SQUARE, "", "square(3)", None),  # tests that assert nothing
        (SQUARE, "", "assert (", None),
    ],
)
def test_code_tests(answer: str, request_text: str, tests: str, value: float | None) -> None:
    row = judged(answer, SQUARE, request_text, tests=tests)
    assert score("code_tests", row) == value
    cut = judged(answer, SQUARE, request_text, finished=False, tests=tests)
    assert score("code_tests", cut) == (None if value is None else 0)


GOLD = "for n in range(3):\n    print(n, end=' ')\nprint()"


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        (GOLD, GOLD, 1),
        ("print('0 1 2')", GOLD, 1),  # blanks at the end of a line do not count
        ("```\nprint('0 1 2')\n```", GOLD, 1),
        ("print('0 1 2\\n')", GOLD, 1),
        ("print('0 1 3')", GOLD, 0),
        ("print('0 1 2')\nraise SystemExit", GOLD, 0),
        ("0 1 2", GOLD, 0),
        ("", GOLD, 0),
        ("print(1)", "console.log(1)", None),
        ("print(1)", "raise ValueError(1)", None),
        ("print(1)", SQUARE, None),  # prints nothing: everything silent would be right
        ("echo 1", "#!/bin/sh\necho 1", None),
    ],
)
def test_code_output(answer: str, gold: str, value: float | None) -> None:
    assert score("code_output", judged(answer, gold)) == value
    cut = score("code_output", judged(answer, gold, finished=False))
    assert cut == (None if value is None else 0)


def test_code_correct_takes_tests_first() -> None:
    rows = [
        judged(SQUARE, SQUARE, tests=TESTS),
        judged("print('0 1 2')", GOLD),
        judged("print(7)", GOLD),
        judged("console.log(1)", "console.log(1)"),
    ]
    assert [score("code_correct", row) for row in rows] == [1, 1, 0, None]
    found = figure(metric("code_correct"), rows, 10, "x")
    assert (found.value, found.rows) == (pytest.approx(2 / 3), 3)


def test_a_program_runs_once_however_often_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    run_many = sandbox.run_many

    def counted(programs: list[str], tests: list[str] | None = None) -> list[sandbox.Outcome]:
        ran.extend(programs)
        return run_many(programs, tests=tests)

    monkeypatch.setattr(code, "_RESULTS", code._Results())
    monkeypatch.setattr(sandbox, "run_many", counted)
    rows = [judged("print(1)", "print(1)"), judged("print(2)", "print(1)")]
    for _ in range(2):
        assert figure(metric("code_output"), rows, 10, "x").value == 0.5
    assert sorted(ran) == ["print(1)", "print(2)"]
