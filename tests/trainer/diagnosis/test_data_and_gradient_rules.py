"""Poor training rows and conflicting gradients: ill, healthy, not measured."""

from __future__ import annotations

from pathlib import Path

from tests.trainer.diagnosis.made_run import MadeRun, found_by, missing_of
from trainer.diagnosis import Severity
from trainer.diagnosis.rules.data import PoorData
from trainer.diagnosis.rules.gradients import GradientConflict


def test_answers_without_their_format(tmp_path: Path) -> None:
    run = MadeRun()
    run.train_rows["style"] = [("UP", 0.4)] * 8 + [("k 1 a 0 !", 0.1)] * 24
    (found,) = found_by(PoorData(), run, tmp_path)
    assert (found.severity, found.tasks) == (Severity.high, ["style"])
    assert found.score == 0.25 / 11
    assert found.overrides == ["data.cleaning.wrong_format=true"]
    assert found.evidence == [
        "style: 8 of 32 sampled training answers (25.0 % (13.3-42.1)) do not have the task's format, such "
        "as 'UP' in train/style.jsonl:1."
    ]


def test_more_of_them_than_cleaning_allows(tmp_path: Path) -> None:
    run = MadeRun()
    run.train_rows["style"] = [("UP", 0.4)] * 16 + [("k 1 a 0 !", 0.1)] * 16
    (found,) = found_by(PoorData(), run, tmp_path)
    assert found.overrides == [
        "data.cleaning.wrong_format=true",
        "data.cleaning.max_drop_ratio=0.6",
    ]


def test_rows_that_stay_hard(tmp_path: Path) -> None:
    run = MadeRun("data.cleaning.drop=[style-9]")
    good = [("k 1 a 0 !", 0.1 + 0.002 * n) for n in range(26)]
    run.train_rows["style"] = [("k 9 !", 5.0 + n) for n in range(6)] + good
    (found,) = found_by(PoorData(), run, tmp_path)
    assert found.severity is Severity.low  # they may be right and hard
    assert found.overrides == [
        "data.cleaning.drop=[style-9,style-5,style-4,style-3,style-2,style-1]"
    ]
    assert "6 of 32 sampled training rows have a loss of 5.0 nats or more" in found.evidence[0]
    assert "train/style.jsonl:6" in found.evidence[0]


def test_sound_rows(tmp_path: Path) -> None:
    run = MadeRun()
    run.train_rows["style"] = [("k 1 !", 9.0)] * 3 + [("k 1 a 0 !", 0.1)] * 29  # three: chance
    run.train_rows["code"] = [("LOAD a LOAD b ADD RET", 2.0)] * 32  # hard, but all alike
    run.train_rows["general"] = [("anything", 9.0)] * 10 + [("sure !", 0.0)] * 22
    assert found_by(PoorData(), run, tmp_path) == []
    run.train_rows = {}
    assert "evaluation.train_rows" in missing_of(PoorData(), run, tmp_path / "unmeasured")


def measured(cosines: list[float], self_cosine: float = 0.8) -> list[dict]:
    """Two tasks and a general one; the general one is against both."""
    return [
        {
            "step": step,
            "tasks": ["qa", "code", "general"],
            "cosine": [[1.0, one, -0.9], [one, 1.0, -0.9], [-0.9, -0.9, 1.0]],
            "self_cosine": [self_cosine, 0.8, 0.8],
        }
        for step, one in enumerate(cosines)
    ]


def test_gradients_against_each_other(tmp_path: Path) -> None:
    run = MadeRun("curriculum.phases.mix.order=mixed", "curriculum.phases.specialize.order=mixed")
    run.interference = measured([0.5, 0.5, 0.5, -0.4, -0.42, -0.38])
    (found,) = found_by(GradientConflict(), run, tmp_path)
    assert (found.severity, found.tasks) == (Severity.medium, ["qa", "code"])
    assert "qa against code -0.40 (-0.42 to -0.38)" in found.evidence[0]
    assert found.overrides == ["global_batch_size=64"]


def test_conflict_is_met_by_boundaries_then_by_mixing(tmp_path: Path) -> None:
    run = MadeRun("boundary=none")
    run.interference = measured([-0.4] * 6)
    assert found_by(GradientConflict(), run, tmp_path)[0].overrides == ["boundary=tagged"]
    run = MadeRun()
    run.interference = measured([-0.4] * 6)
    assert found_by(GradientConflict(), run, tmp_path)[0].overrides == [
        "curriculum.phases.specialize.order=mixed"
    ]


def test_gradients_in_peace(tmp_path: Path) -> None:
    run = MadeRun()
    run.interference = measured([-0.5, -0.5, -0.5, -0.6, 0.3, 0.1])  # uncertain
    assert found_by(GradientConflict(), run, tmp_path) == []
    run.interference = measured([-0.4] * 6, self_cosine=0.1)  # noise
    assert found_by(GradientConflict(), run, tmp_path) == []
    run.interference = measured([-0.4] * 4)
    assert missing_of(GradientConflict(), run, tmp_path).startswith("too few measurements")
