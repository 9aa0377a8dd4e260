"""Hardness of rows for ``order: easy_to_hard``: by length, quality or a base model's loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from data_modules.faults import DataFault, Fault
from data_modules.mixture import OrderBy
from data_modules.samples import SampleStore

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
    return lambda rows: losses.of(np.asarray(store.row_keys)[rows])


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
        if self._keys.dtype != np.uint64 or self._keys.shape != self._losses.shape:
            seen = f"{path} holds {self._keys.dtype} keys {self._keys.shape}"
            seen += f" and losses {self._losses.shape}"
            raise DataFault(self._fault(seen))

    def of(self, row_keys: np.ndarray) -> np.ndarray:
        """float [R]: the losses of rows.

        Raises:
            DataFault: some rows have none; says how many.
        """
        if not len(self._keys):
            raise DataFault(self._missing(len(row_keys), len(row_keys)))
        # Keys are hashes: looked up as drawn, every one would miss the processor's caches.
        order = np.argsort(row_keys)
        places = np.searchsorted(self._keys, row_keys[order])
        np.minimum(places, len(self._keys) - 1, out=places)
        found = self._losses[places]
        unknown = (self._keys[places] != row_keys[order]) | ~np.isfinite(found)
        if unknown.any():
            raise DataFault(self._missing(int(unknown.sum()), len(row_keys)))
        losses = np.empty_like(found)
        losses[order] = found
        return losses

    def _missing(self, missing: int, rows: int) -> Fault:
        return self._fault(f"{self._path} has no loss of {missing:,} of {rows:,} drawn rows")

    @staticmethod
    def _fault(seen: str) -> Fault:
        rule = "order_by: loss needs row_keys (uint64, sorted) and losses of every row"
        return Fault("data.row_losses", seen, rule, _REMEDY)
