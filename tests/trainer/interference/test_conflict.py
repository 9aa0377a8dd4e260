"""Cosines between tasks, corrected for the noise of few rows."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.interference.conflict import LEAST_SELF_COSINE, conflict_of


def halves(means: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    """[K, 2, m]: each half is the mean and its own noise of ``noise`` times the mean's length."""
    drawn = np.random.default_rng(seed).normal(size=(len(means), 2, means.shape[1]))
    scale = noise * np.linalg.norm(means, axis=1) / np.sqrt(means.shape[1])
    return means[:, None] + drawn * scale[:, None, None]


def directions(*coordinates: tuple[float, float], size: int = 4093) -> np.ndarray:
    basis = np.random.default_rng(9).normal(size=(2, size))
    first, second = np.linalg.qr(basis.T)[0].T
    return np.array([x * first + y * second for x, y in coordinates])


def test_by_hand() -> None:
    sketches = np.array([[[3.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [2.0, 2.0]]])
    found = conflict_of(sketches)
    # means (2, 0) and (1, 2): inner product 2; half norms (3, 1) and (2, sqrt 8)
    measured = 2 / np.sqrt(3 * 1 * 2 * np.sqrt(8))
    own = 4 / (2 * np.sqrt(8))
    assert found.self_cosine == pytest.approx([1.0, own])
    assert found.norm == pytest.approx([2.0, np.sqrt(5)])
    assert found.cosine[0][1] == found.cosine[1][0] == pytest.approx(measured / np.sqrt(own))
    assert [found.cosine[0][0], found.cosine[1][1]] == [1.0, 1.0]
    assert found.rate == 0.0


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 2.0])
def test_noise_shrinks_cosines_and_is_corrected(noise: float) -> None:
    means = directions((1, 0), (2, 0), (-1, 0), (0.6, 0.8))
    found = conflict_of(halves(means, noise))
    assert found.self_cosine == pytest.approx([1 / (1 + noise**2)] * 4, abs=0.05)
    cosine = np.array(found.cosine)
    # twins, opposites, and 0.6
    assert cosine[0, 1] == pytest.approx(1.0, abs=0.1)
    assert cosine[0, 2] == pytest.approx(-1.0, abs=0.1)
    assert cosine[0, 3] == pytest.approx(0.6, abs=0.1)
    assert found.rate == 0.5, "one task against each of the three others"


def test_without_the_correction_noise_would_hide_a_conflict() -> None:
    sketches = halves(directions((1, 0), (-1, 0)), 2.0)
    whole = sketches.mean(1)
    plain = whole[0] @ whole[1] / np.linalg.norm(whole, axis=1).prod()
    assert plain == pytest.approx(-1 / 3, abs=0.05), "of halves with noise of twice their length"
    assert conflict_of(sketches).cosine[0][1] < -0.9


def test_pure_noise_stays_small() -> None:
    drawn = np.random.default_rng(1).normal(size=(6, 2, 4093))
    found = conflict_of(drawn)
    assert np.abs(found.self_cosine).max() < LEAST_SELF_COSINE
    off = np.array(found.cosine)[np.triu_indices(6, 1)]
    assert np.abs(off).max() < 0.5
    assert 0 < found.rate < 1


def test_a_task_without_a_gradient() -> None:
    sketches = np.ones((2, 2, 8))
    sketches[1] = 0
    found = conflict_of(sketches)
    assert found.cosine == [[1.0, 0.0], [0.0, 1.0]]
    assert found.self_cosine == pytest.approx([1.0, 0.0])
    assert found.norm == pytest.approx([8**0.5, 0.0])
    assert conflict_of(sketches[:1]).rate == 0.0
