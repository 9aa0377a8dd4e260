"""The speed benchmark: contenders do the same work, and its figures are what they are called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "speed"))

import compare
from compare import Contender, Result, contenders, regressions, run, summary
from picture import draw
from work import Work, load_rows, make_work

REPOSITORY = Path(__file__).resolve().parents[2]


def result(tokens: float) -> Result:
    return Result(seconds=1.0, tokens=tokens, startup=10.0, peak=10**9, losses=[])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """A small piece of work on the built-in benchmark's data."""
    made = Work(
        folder=str(tmp_path_factory.mktemp("work")),
        ranks=2,
        data=None,
        tokenizer=None,
        steps=4,
        rows_per_step=16,
        max_length=128,
        hidden=64,
        layers=1,
    )
    make_work(made)
    return made


def test_the_loops_train_what_polyphase_trains(work: Work, tmp_path: Path) -> None:
    """The evaluation loss behind every second step is the same: same rows, weights, optimizer and order."""
    names = ("polyphase", "DeepSpeed loop")
    field = [one for one in contenders(work) if one.name in names]
    losses = []
    for one in field:
        seen = run(one, work, tmp_path / one.name, evaluate=2)
        rows = load_rows(work.path("rows.npz"))[2 * work.rows_per_step :]
        tokens = sum(len(ids) for ids, _ in rows)
        assert seen.tokens * seen.seconds * 2 == pytest.approx(tokens, rel=1e-6)
        assert seen.startup > seen.seconds
        assert seen.peak > 10**8
        losses.append([loss for _, loss in seen.losses])
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][1] < losses[0][0] - 0.01


def test_a_contender_that_fails_is_told(work: Work, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken: exit code"):
        run(Contender("broken", "polyphase_run.py", ("no_such_group=1",)), work, tmp_path)
    assert "no_such_group" in (tmp_path / "log").read_text()


def test_figures(work: Work) -> None:
    rows = load_rows(work.path("rows.npz"))
    assert len(rows) == work.steps * work.rows_per_step
    supervised = sum(int(mask.sum()) for _, mask in rows) / len(rows)
    results = {
        "polyphase": [result(900.0), result(450.0), result(900.0)],
        "PyTorch loop": [result(1000.0), result(500.0), result(1000.0)],
        "TRL packed": [result(225.0)],
    }
    table = summary(work, results)["contenders"]
    assert table["polyphase"]["polyphase_is"] == 1.0
    # compared within a round: the slow second one changes nothing
    assert table["PyTorch loop"]["polyphase_is_by_round"] == pytest.approx([0.9, 0.9, 0.9])
    assert table["TRL packed"]["polyphase_is"] == pytest.approx(4.0)
    share = supervised / (sum(len(ids) for ids, _ in rows) / len(rows))
    assert table["TRL packed"]["supervised_tokens_per_second"] == pytest.approx(225 * share)


def test_only_the_fastest_of_a_family_goes_on(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = contenders(work)
    slow = {one.name: number for number, one in enumerate(field, 1)}
    ran: list[str] = []

    def pretended(one: Contender, *_: Any) -> Result:
        ran.append(one.name)
        return result(1 / slow[one.name])

    monkeypatch.setattr(compare, "run", pretended)
    compare.rounds(work, 2, [], tmp_path)
    first, second = ran[: len(field)], ran[len(field) :]
    assert first == [one.name for one in field]
    families = {one.family for one in field if one.family}
    assert families == {"TRL unpacked", "TRL packed", "HF Trainer"}
    for family in families:
        names = [one.name for one in field if one.family == family]
        assert [name for name in second if name in names] == names[:1]
    assert len(second) == len([one for one in field if not one.family]) + len(families)


def test_a_regression_of_more_than_five_percent_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = tmp_path / "baseline.json"
    kept = {"PyTorch loop": 0.92, "DeepSpeed loop": 1.0}
    baseline.write_text(json.dumps({"work": {"rows": 3}, "polyphase_is": kept}))
    monkeypatch.setattr(compare, "BASELINE", baseline)

    def at(torch_ratio: float, deepspeed_ratio: float, rows: int = 3) -> list[str]:
        ratios = {"PyTorch loop": torch_ratio, "DeepSpeed loop": deepspeed_ratio}
        table = {name: {"polyphase_is": ratio} for name, ratio in ratios.items()}
        return regressions({"work": {"rows": rows}, "contenders": table})

    assert at(0.88, 0.96) == []
    assert at(0.87, 0.96) == ["polyphase is 0.870 of the PyTorch loop; the baseline is 0.920"]
    assert len(at(0.5, 0.94)) == 2
    assert "other work" in at(1.0, 1.0, rows=4)[0]


def test_the_picture_is_drawn(work: Work, tmp_path: Path) -> None:
    results = summary(work, {"polyphase": [result(9.0)], "PyTorch loop": [result(10.0)]})
    draw(results, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_the_shipped_baseline_names_both_limits() -> None:
    kept = json.loads((REPOSITORY / "benchmarks" / "speed" / "baseline.json").read_text())
    assert set(kept["polyphase_is"]) == set(compare.LIMITS)
    assert all(0.5 < ratio < 1.5 for ratio in kept["polyphase_is"].values())
