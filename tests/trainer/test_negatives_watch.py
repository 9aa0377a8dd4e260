"""The warning that negatives cost what the positives have learnt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from trainer.negatives_watch import NegativesWatch


def warnings(losses: Iterable[Mapping[str, float]], start: int) -> dict[int, str]:
    """Step -> warning, with negatives from step ``start`` on."""
    watch = NegativesWatch()
    found = {i: watch.warning(one, i >= start) for i, one in enumerate(losses)}
    return {step: text for step, text in found.items() if text is not None}


def test_a_lasting_rise_is_told_once() -> None:
    losses = [{"qa": 1.0, "code": 3.0}] * 50 + [{"qa": 1.2, "code": 3.2}] * 200
    ((step, text),) = warnings(losses, 49).items()
    assert 65 < step < 100, "10 % more, smoothed over twenty steps"
    assert "rose from 2 to 2.1" in text
    assert "negatives.weight" in text


def test_a_rise_below_five_percent_is_none() -> None:
    assert warnings([{"qa": 1.0}] * 50 + [{"qa": 1.04}] * 200, 50) == {}


def test_one_bad_step_is_none() -> None:
    losses = [{"qa": 1.0}] * 50 + [{"qa": 1.8}] + [{"qa": 1.0}] * 50
    assert warnings(losses, 40) == {}


def test_without_negatives_there_is_nothing_to_tell() -> None:
    assert warnings([{"qa": 1.0}] * 20 + [{"qa": 9.0}] * 50, 1000) == {}


def test_only_what_came_before_the_negatives_is_compared() -> None:
    # The rise is over before they begin.
    losses = [{"qa": 1.0}] * 20 + [{"qa": 2.0}] * 200
    assert warnings(losses, 120) == {}


def test_another_mixture_is_no_rise() -> None:
    # Stretches of the easy and of the hard task, and one that comes late and is harder still.
    losses = [{"qa": 1.0}, {"code": 3.0}] * 20
    losses += [{"qa": 1.0}] * 40 + [{"code": 3.0}] * 40 + [{"chat": 9.0}] * 40
    assert warnings(losses, 40) == {}


def test_ordinary_noise_while_the_loss_falls_is_none() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(1.0, 0.15, 1000)
        falling = 2.0 * np.exp(-np.arange(1000) / 400)
        assert warnings([{"qa": one} for one in noise * falling], 200) == {}


def test_negatives_from_the_first_step_on() -> None:
    assert warnings([{"qa": 1.0}, {"qa": 0.5}, {"qa": 0.9}], 0) == {}
    assert list(warnings([{"qa": 1.0}] + [{"qa": 1.3}] * 30, 0)) == [20], "not by a step or two"


def test_steps_of_negatives_alone() -> None:
    assert warnings([{}, {}, {"qa": 1.0}, {"qa": 1.0}], 0) == {}
