"""Hardness of rows for ``order: easy_to_hard``: by length, quality or a base model's loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from data_modules.faults import DataFault, Fault
from data_modules.mixture import OrderBy
from data_modules.samples import SampleStore

_CHUNK = 1 << 20  # rows looked up at once: bounds memory
_REMEDY = "Make it again: python launch/score.py with the settings of this run."


def hardness_of(
    store: SampleStore, order_by: OrderBy, row_losses: Path | None
) -> Callable[[np.ndarray], np.ndarray]:
    """A function of rows (int [R]) to their hardness (float or int [R]), low is easy.

    The function raises DataFault for rows without a loss.

    Raises:
        DataFault: no usable file of losses.
    """
    if order_by is OrderBy.length:
        return store.lengths_of
    if order_by is OrderBy.quality:
        return lambda rows: -np.asarray(store.quality)[rows]
    assert row_losses is not None, "order_by: loss is validated to come with data.row_losses"
    losses = RowLosses(row_losses)
    return lambda rows: losses.of(np.asarray(store.row_keys), rows)


class RowLosses:
    """A model's loss on every row, from an ``.npz`` with ``row_keys`` (uint64, sorted) and ``losses``.

    Raises:
        DataFault: the file is not such a one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with np.load(path) as arrays:
                self._keys, self._losses = arrays["row_keys"], arrays["losses"]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            seen = f"{path} cannot be read ({error!r})"
            raise DataFault(self._fault(seen)) from error
        shape = self._keys.shape
        if self._keys.dtype != np.uint64 or self._losses.shape != shape or not len(self._keys):
            seen = f"{path} holds {self._keys.dtype} keys {shape}"
            seen += f" and losses {self._losses.shape}"
            raise DataFault(self._fault(seen))

    def of(self, keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 [R]: the losses of ``rows``, whose keys are ``keys[rows]``.

        Raises:
            DataFault: some rows have none; says how many.
        """
        losses = np.empty(len(rows), np.float32)
        missing = 0
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            wanted = keys[rows[part]]
            # Keys are hashes: looked up as drawn, every one would miss the processor's caches.
            order = np.argsort(wanted)
            places = np.searchsorted(self._keys, wanted[order])
            places = np.minimum(places, len(self._keys) - 1)
            found = self._losses[places]
            missing += int(((self._keys[places] != wanted[order]) | ~np.isfinite(found)).sum())
            losses[part][order] = found
        if missing:
            seen = f"{self._path} has no loss of {missing:,} of {len(rows):,} drawn rows"
            raise DataFault(self._fault(seen))
        return losses

    @staticmethod
    def _fault(seen: str) -> Fault:
        rule = "order_by: loss needs row_keys (uint64, sorted) and losses of every row"
        return Fault("data.row_losses", seen, rule, _REMEDY)
