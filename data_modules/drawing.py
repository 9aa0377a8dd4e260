"""Drawing: which rows of a task come next, in shuffled rounds that leave none out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from data_modules.balance import apportion
from data_modules.samples import SampleStore
from data_modules.seeding import generator


class Deck:
    """Deals rows in shuffled rounds: every row once before any of them comes again.

    However much is taken at a time, after any number of takes every row has been dealt equally
    often or once more. The same holds within each take, so that down-sampling never repeats a row
    within an epoch, and draws other rows in the next.

    Args:
        rng_of_round: generator that shuffles a round, by its number.
    """

    def __init__(
        self, rows: np.ndarray, rng_of_round: Callable[[int], np.random.Generator]
    ) -> None:
        self._rows, self._rng_of_round = rows, rng_of_round
        self._round = 0
        self._left = np.empty(0, np.int32)  # places in `rows` that this round has yet to deal

    def take(self, count: int) -> np.ndarray:
        """The next ``count`` rows."""
        assert len(self._rows) or not count, "no row to draw"
        carried = self._left[:count]
        self._left = self._left[count:]
        taken, count = [carried], count - len(carried)
        while count > 0:
            fresh = self._rng_of_round(self._round).permutation(len(self._rows)).astype(np.int32)
            self._round += 1
            if len(carried) and count < len(fresh):
                # Rows that this take already has from the last round come last in this one.
                has = np.zeros(len(self._rows), bool)
                has[carried] = True
                fresh = np.concatenate([fresh[~has[fresh]], fresh[has[fresh]]])
            taken.append(fresh[:count])
            self._left = fresh[count:]
            count -= len(taken[-1])
        return self._rows[np.concatenate(taken)]


@dataclass(frozen=True)
class Pool:
    """The rows that a phase can draw of one task.

    Attributes:
        parts: rows that are drawn alike. One part named "" for the whole task, or one for each of
            its sources where their weights differ.
        shares: part -> share of the task's draws, in proportion to weight * rows of the source.
    """

    parts: dict[str, np.ndarray]
    shares: dict[str, float]

    @property
    def rows(self) -> np.ndarray:
        """All rows."""
        return np.concatenate([np.empty(0, np.int32), *self.parts.values()])

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    @property
    def once(self) -> float:
        """Rows that can be drawn before one comes twice."""
        whole = sum(self.shares.values())
        return min(
            (len(rows) * whole / self.shares[part] for part, rows in self.parts.items()),
            default=0.0,
        )


def pool_of(store: SampleStore, rows: np.ndarray, weights: Mapping[str, float]) -> Pool:
    """The pool of one task's ``rows``.

    Args:
        weights: source (``task/source``) -> weight; 1 where absent. A source of weight 0 is left out.
    """
    whole = Pool({"": rows}, {"": float(len(rows))})
    if not len(rows) or all(weight == 1.0 for weight in weights.values()):
        return whole
    source_ids = np.asarray(store.source_ids)[rows]
    present = {store.sources[one]: one for one in np.flatnonzero(np.bincount(source_ids))}
    used = {name: weights.get(name, 1.0) for name in present}
    if len(set(used.values())) == 1 and 0.0 not in used.values():
        return whole
    parts = {name: rows[source_ids == present[name]] for name in sorted(present) if used[name] > 0}
    return Pool(parts, {name: used[name] * len(part) for name, part in parts.items()})


class Dealer:
    """Deals the rows of a pool, each part by a deck of its own and by its share of the whole."""

    def __init__(self, pool: Pool, seed: int, *names: str) -> None:
        self._decks = {
            part: Deck(rows, _rounds(seed, *names, *((part,) if part else ())))
            for part, rows in pool.parts.items()
        }
        whole = sum(pool.shares.values())
        self._shares = {part: share / whole for part, share in pool.shares.items() if whole}
        self._dealt = dict.fromkeys(self._decks, 0)

    def take(self, count: int) -> np.ndarray:
        """The next ``count`` rows of the task."""
        if len(self._decks) == 1:
            return next(iter(self._decks.values())).take(count)
        # What each part is behind its share: small takes add up to the shares as well.
        after = sum(self._dealt.values()) + count
        behind = {
            part: max(0.0, after * share - self._dealt[part])
            for part, share in self._shares.items()
        }
        counts = apportion(count, behind) if count else dict.fromkeys(behind, 0)
        taken = []
        for part, rows in counts.items():
            self._dealt[part] += rows
            taken.append(self._decks[part].take(rows))
        return np.concatenate(taken)


def _rounds(seed: int, *names: str) -> Callable[[int], np.random.Generator]:
    return lambda number: generator(seed, *names, number)


def few_rows(store: SampleStore, rows: np.ndarray, count: int, seed: int, task: str) -> np.ndarray:
    """``count`` of a task's rows in the proportions of its sources and languages, in file order.

    Each group of one source and language is shuffled by a seed of its names; its k-th row of n ranks
    at ``(k + 1/2) / n``, and the first ``count`` ranks of the task are taken. The groups' counts are
    thus rounded as by Sainte-Lague's method, and fewer rows are always a subset of more.
    """
    if len(rows) <= count:
        return rows
    languages = len(store.languages)
    groups = np.asarray(store.source_ids)[rows].astype(np.int64) * languages
    groups += np.asarray(store.language_ids)[rows]
    names = {
        int(group): (store.sources[group // languages], store.languages[group % languages])
        for group in np.flatnonzero(np.bincount(groups))
    }
    members: list[np.ndarray] = []
    ranks: list[np.ndarray] = []
    for group in sorted(names, key=names.__getitem__):  # ties go by name
        found = np.flatnonzero(groups == group)
        members.append(generator(seed, "subset", task, *names[group]).permutation(found))
        ranks.append((np.arange(len(found)) + 0.5) / len(found))
    first = np.argsort(np.concatenate(ranks), kind="stable")[:count]
    return rows[np.sort(np.concatenate(members)[first])]
