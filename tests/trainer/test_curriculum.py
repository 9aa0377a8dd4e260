"""Phases on the step axis and the learning rate at every step."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.schema import Config, CurriculumConfig, PhaseConfig, ScheduleConfig, Shape
from trainer.curriculum import Phase, lr_at, lr_factor, place, selected, warmup_steps


def factors(steps: int, **schedule: Any) -> list[float]:
    """The factor of every step of a phase."""
    config = ScheduleConfig(**schedule)
    return [lr_factor(config, index, steps) for index in range(steps)]


def test_constant() -> None:
    assert factors(4) == [1.0] * 4
    assert factors(4, end_ratio=0.5) == [1.0] * 4, "constant ends where it is"


def test_warm_up_rises_linearly_to_its_last_step() -> None:
    assert factors(6, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert factors(10, warmup_ratio=0.2)[:3] == [0.5, 1.0, 1.0]


def test_linear_by_hand() -> None:
    assert factors(4, shape=Shape.linear) == [0.75, 0.5, 0.25, 0.0]
    assert factors(6, shape=Shape.linear, warmup_steps=2, end_ratio=0.2) == pytest.approx(
        [0.5, 1.0, 0.8, 0.6, 0.4, 0.2]
    )


def test_cosine_by_hand() -> None:
    assert factors(5, shape=Shape.cosine, warmup_steps=1, end_ratio=0.1) == pytest.approx(
        [1.0, 1 - 0.9 * (1 - math.sqrt(0.5)) / 2, 0.55, 1 - 0.9 * (1 + math.sqrt(0.5)) / 2, 0.1]
    )


def test_wsd_keeps_a_plateau() -> None:
    got = factors(10, shape=Shape.wsd, warmup_ratio=0.2, decay_ratio=0.4, end_ratio=0.2)
    assert got == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # A decay longer than what warm-up leaves begins behind warm-up.
        ({"warmup_steps": 2, "decay_ratio": 1.0}, [0.5, 1, 2 / 3, 1 / 3, 0]),
        # At least the last step decays: the end value is always reached.
        ({"decay_ratio": 0.0}, [1, 1, 1, 1, 0]),
        ({"warmup_steps": 5}, [0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_wsd_edges(schedule: dict[str, Any], expected: list[float]) -> None:
    assert factors(5, shape=Shape.wsd, **schedule) == pytest.approx(expected)


@given(
    shape=st.sampled_from([Shape.linear, Shape.cosine, Shape.wsd]),
    steps=st.integers(1, 300),
    warmup=st.floats(0, 0.9),
    decay=st.floats(0, 1),
    end=st.floats(0, 1),
)
def test_every_shape_peaks_after_warm_up_and_ends_at_its_end(
    shape: Shape, steps: int, warmup: float, decay: float, end: float
) -> None:
    schedule = ScheduleConfig(shape, warmup_ratio=warmup, decay_ratio=decay, end_ratio=end)
    got = [lr_factor(schedule, index, steps) for index in range(steps)]
    rising = warmup_steps(schedule, steps)
    if rising:
        assert got[rising - 1] == 1.0
    if rising < steps:
        assert got[-1] == pytest.approx(end)
    assert all(a < b for a, b in pairwise(got[:rising]))
    assert all(a >= b - 1e-12 for a, b in pairwise(got[max(0, rising - 1) :]))
    assert all(0 <= factor <= 1 for factor in got)


def test_warm_up_steps_win_over_the_ratio() -> None:
    assert warmup_steps(ScheduleConfig(warmup_ratio=0.5, warmup_steps=3), 100) == 3
    assert warmup_steps(ScheduleConfig(warmup_ratio=0.5, warmup_steps=0), 100) == 0
    assert warmup_steps(ScheduleConfig(warmup_ratio=0.03), 100) == 3
    assert warmup_steps(ScheduleConfig(), 100) == 0


def test_warm_up_longer_than_the_phase_never_peaks() -> None:
    assert factors(3, shape=Shape.cosine, warmup_steps=6) == pytest.approx([1 / 6, 2 / 6, 3 / 6])


PHASES = {
    "mix": PhaseConfig(lr=2e-4, schedule=ScheduleConfig(Shape.cosine, end_ratio=0.1)),
    "specialize": PhaseConfig(lr=1e-4, schedule=ScheduleConfig(warmup_steps=2)),
    "hard": PhaseConfig(lr=5e-5),
}
STEPS = {"mix": 10, "specialize": 5, "hard": 1}


def test_phases_follow_one_another() -> None:
    placed = place(PHASES, STEPS)
    assert [(p.name, p.first_step, p.last_step, p.steps) for p in placed] == [
        ("mix", 1, 10, 10),
        ("specialize", 11, 15, 5),
        ("hard", 16, 16, 1),
    ]
    assert [p.first_step for p in place(PHASES, STEPS, steps_before=100)] == [101, 111, 116]
    assert placed[1].warmup_steps == 2


def test_the_learning_rate_switches_between_two_steps() -> None:
    placed = place(PHASES, STEPS)
    # Step 10 is mix's end, step 11 is specialize's first warm-up step.
    assert [lr_at(placed, step) for step in (10, 11, 12, 15, 16)] == pytest.approx(
        [2e-5, 5e-5, 1e-4, 1e-4, 5e-5]
    )
    for outside in (0, 17):
        with pytest.raises(IndexError, match=f"step {outside} lies in no phase"):
            lr_at(placed, outside)


def test_the_learning_rate_depends_on_the_step_alone() -> None:
    # A later start of the same phase gives the same curve: nothing to restore but the step.
    early, late = place(PHASES, STEPS), place(PHASES, STEPS, steps_before=7)
    assert [lr_at(early, step) for step in range(1, 17)] == [
        lr_at(late, step) for step in range(8, 24)
    ]


def test_a_phase_of_one_step_trains_at_its_rate_or_its_end() -> None:
    for schedule, factor in ((ScheduleConfig(), 1.0), (ScheduleConfig(Shape.linear), 0.0)):
        phase = Phase("one", 3, 3, PhaseConfig(lr=0.5, schedule=schedule))
        assert lr_at([phase], 3) == 0.5 * factor


def test_selection_gives_names_and_order() -> None:
    config = Config(curriculum=CurriculumConfig(phases=dict(PHASES)))
    assert list(selected(config)) == ["mix", "specialize", "hard"]
    config.curriculum.select = {"hard": None, "mix": {"anything": 1}}
    chosen = selected(config)
    assert list(chosen) == ["hard", "mix"]
    assert chosen["mix"] is PHASES["mix"], "settings come from phases, never from select"
