"""A history as a weighted bag of items: what most simple models start from.

    ann's events    a (3 d ago)   b (2 d ago)   a (1 d ago)        request now, half-life 1 day
    weights         1/8           1/4           1/2
    profile         a: 5/8        b: 1/4

Sums run over a user's own events in their own order, one at a time, so that a row has the same bits in any batch.
"""
from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recs.clock import DAY
from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables


def ages_d(histories: Histories, request_us: np.ndarray) -> np.ndarray:
    """[E] days from each event to its user's request, never negative."""
    return np.maximum(np.asarray(request_us)[histories.user] - histories.ts, 0) / DAY


def decay(age: np.ndarray, half_life: float | None) -> np.ndarray:
    """2^(-age / half_life); 1 where there is no half-life.  Floored at 2^-60, so that old items keep a weight above zero."""
    if half_life is None:
        return np.ones(len(age))
    return np.exp2(-np.minimum(age / half_life, 60.0))


def profile(histories: Histories, weights: np.ndarray, tables: ItemTables, binary: bool = False) -> sp.csr_matrix:
    """[U, I] float32: weights [E] summed per user and item (or 1 for every item met); events without a column are left out."""
    columns = tables.columns(histories.item)
    known = columns >= 0
    cell = histories.user[known] * max(tables.n_items, 1) + columns[known]
    cells, place = np.unique(cell, return_inverse=True)
    # bincount adds one by one in the order of the events; a pairwise sum would depend on where a user lies in the batch
    sums = np.ones(len(cells)) if binary else np.bincount(place, weights[known], minlength=len(cells))
    rows, cols = np.divmod(cells, max(tables.n_items, 1))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(histories)))])
    return sp.csr_matrix((sums.astype(np.float32), cols.astype(np.int32), indptr), shape=(len(histories), tables.n_items))


def dense_block(matrix: sp.csr_matrix, lo: int, hi: int) -> np.ndarray:
    """Columns lo:hi of [U, I] as a plain array."""
    return (matrix if (lo, hi) == (0, matrix.shape[1]) else matrix[:, lo:hi]).toarray()


def own_event(histories: Histories, weights: np.ndarray, tables: ItemTables, columns: np.ndarray) -> np.ndarray:
    """[U, K] the user's event on the item itself with the largest weight (the newest of equals), -1 where there is none."""
    mine = tables.columns(histories.item)
    out = np.full(columns.shape, -1, np.int64)
    for u in range(len(histories)):
        a, b = histories.offsets[u], histories.offsets[u + 1]
        for e in np.lexsort((np.arange(b - a), weights[a:b])):      # ascending: the strongest is written last
            out[u, (columns[u] == mine[a + e]) & (columns[u] >= 0)] = a + e
    return out
