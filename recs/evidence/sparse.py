"""Sparse matrices that are asked for single cells."""
from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def cells_at(values: sp.csr_matrix, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The values at cells (row, column), which may have any shapes that go together; 0 where nothing is stored.

    Sorts the columns of `values` in place.
    """
    values.sort_indices()
    width = max(values.shape[1], 1)
    stored = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr)) * width + values.indices
    wanted = row * width + column
    if not len(stored):
        return np.zeros(wanted.shape, values.dtype)
    place = np.minimum(np.searchsorted(stored, wanted), len(stored) - 1)
    return np.where(stored[place] == wanted, values.data[place], values.dtype.type(0))
