"""Sketches keep inner products as well as the theory says, and add up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.interference import sketch as sketches
from trainer.interference.sketch import CountSketch, largest_prime

CPU = torch.device("cpu")
SHAPES = {"embed": (400, 64), "up": (192, 64), "bias": (192,), "one": ()}


def gradients(seed: int, shared: float) -> dict[str, torch.Tensor]:
    """Low-rank matrices with a few loud columns, as gradients are; ``shared`` of them is common."""

    def part(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
        made = torch.Generator().manual_seed(seed)
        if len(shape) < 2:
            return torch.randn(shape, generator=made)
        low = torch.randn(shape[0], 2, generator=made) @ torch.randn(2, shape[1], generator=made)
        low[:, :3] *= 10
        return low

    return {
        name: shared**0.5 * part(number, shape) + (1 - shared) ** 0.5 * part(seed + number, shape)
        for number, (name, shape) in enumerate(SHAPES.items())
    }


def flat(values: dict[str, torch.Tensor]) -> np.ndarray:
    return torch.cat([one.reshape(-1) for one in values.values()]).double().numpy()


def sketched(counter: CountSketch, values: dict[str, torch.Tensor]) -> np.ndarray:
    found = counter.zeros()
    for name, one in values.items():
        counter.add(found, name, one)
    return found.numpy()


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (unit @ unit.T)[np.triu_indices(len(vectors), 1)]


@pytest.mark.parametrize(("size", "bound"), [(1024, 0.04), (4096, 0.02)])
def test_cosines_within_the_published_error(size: int, bound: float) -> None:
    vectors = [gradients(100 * k, k / 8) for k in range(1, 8)]
    exact = cosines(np.array([flat(one) for one in vectors]))
    assert exact.max() - exact.min() > 0.3
    errors = []
    for seed in range(8):
        counter = CountSketch(size, seed, CPU)
        errors.append(cosines(np.array([sketched(counter, one) for one in vectors])) - exact)
    assert np.sqrt(np.mean(np.square(errors))) < bound
    assert abs(np.mean(errors)) < bound / 2, "unbiased"


def test_sketches_add_up() -> None:
    counter = CountSketch(512, 1, CPU)
    one, other = gradients(100, 0.0), gradients(200, 0.0)
    both = {name: one[name] + 2 * other[name] for name in one}
    together = sketched(counter, one) + 2 * sketched(counter, other)
    assert sketched(counter, both) == pytest.approx(together, rel=1e-5, abs=1e-4)


def test_places_are_given_by_the_name_alone() -> None:
    values = torch.randn(300, generator=torch.Generator().manual_seed(0))

    def of(name: str, seed: int) -> list[float]:
        counter = CountSketch(512, seed, CPU)
        counter.add(counter.zeros(), "another", values)
        return sketched(counter, {name: values}).tolist()

    assert of("a", 1) == sketched(CountSketch(512, 1, CPU), {"a": values}).tolist()
    assert of("a", 1) != of("b", 1)
    assert of("a", 1) != of("a", 2)


def test_a_tensor_longer_than_the_table_of_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every entry on its own, by the definition, against chunks with a table of 101 signs.
    monkeypatch.setattr(sketches, "_SIGNS", 101)
    counter = CountSketch(31, 0, CPU)
    values = torch.arange(1.0, 351.0)
    bucket, place = counter._start("long")
    expected = np.zeros(31)
    for index, value in enumerate(values.tolist()):
        sign = float(counter._signs[(place + index) % 101])
        expected[(bucket + index) % 31] += sign * value
    assert sketched(counter, {"long": values}) == pytest.approx(expected)
    assert set(counter._signs.tolist()) == {-1.0, 1.0}


def test_bf16_is_summed_in_more_than_bf16() -> None:
    counter = CountSketch(257, 0, CPU)
    values = torch.full((257 * 3,), 1.0)
    values[257:] = 2.0**-9  # lost when added to 1 in bf16
    whole, half = sketched(counter, {"w": values}), sketched(counter, {"w": values.bfloat16()})
    assert half.tolist() == whole.tolist()


def test_largest_prime() -> None:
    assert [largest_prime(limit) for limit in (2, 10, 256, 4096)] == [2, 7, 251, 4093]
