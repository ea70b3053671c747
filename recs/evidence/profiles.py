"""A history as a weighted bag of items: what the simple models start from.

    ann's events    a (3 d ago)   b (2 d ago)   a (1 d ago)        request now
    span "1d"       1/8           1/4           1/2
    profile         a: 5/8        b: 1/4

A span says how events fade, by half-lives: "14d" in days before the request, "7a" in the user's own active days (24-hour windows
counted back from the request in which he did anything; of several events on one item and day the last counts), "2e" in his
own events, "all" not at all.

Sums run over a user's own events in their own order, one at a time, so that a row has the same bits in any batch.
"""
from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from recs.clock import DAY
from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables

# columns the user has [A], columns listed [B] -> [A, B] how much the first speak for the second
Links = Callable[[np.ndarray, np.ndarray], np.ndarray]


def event_weights(histories: Histories, request_us: np.ndarray, span: str) -> np.ndarray:
    """[E] float64 weight of each event by the span; 2^-60 at least, so that old items keep a weight above zero."""
    if span == "all":
        return np.ones(histories.n_events)
    found = re.fullmatch(r"(\d*\.?\d+)([dae])", span)
    if not found or not float(found[1]):
        raise ValueError(f"{span!r} is not a span: write all, or a half-life such as 14d (days), 7a (active days), 2e (events)")
    half_life, unit = float(found[1]), found[2]
    if unit == "d":
        return _halved(_ages_d(histories, request_us), half_life)
    if unit == "e":
        newest = histories.offsets[1:][histories.user] - 1
        return _halved(newest - np.arange(histories.n_events), half_life)
    back, window = _active_days_back(histories, request_us)
    return np.where(_last_of_day(histories, window), _halved(back, half_life), 0.0)


def _halved(age: np.ndarray, half_life: float) -> np.ndarray:
    return np.exp2(-np.minimum(age / half_life, 60.0))


def _ages_d(histories: Histories, request_us: np.ndarray) -> np.ndarray:
    return np.maximum(np.asarray(request_us)[histories.user] - histories.ts, 0) / DAY


def _active_days_back(histories: Histories, request_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[E] how many of the user's active days lie after the event's, and [E] which 24-hour window before the request it is in."""
    window = np.floor(_ages_d(histories, request_us)).astype(np.int64)
    user = histories.user
    order = np.lexsort((window, user))
    new_user = np.diff(user[order], prepend=-1) != 0
    rank = np.cumsum(new_user | (np.diff(window[order], prepend=-1) != 0))
    back = np.empty(len(user), np.int64)
    back[order] = rank - np.maximum.accumulate(np.where(new_user, rank, 0))
    return back, window


def _last_of_day(histories: Histories, window: np.ndarray) -> np.ndarray:
    """[E] true for the last event of a user on one item in one window."""
    key = np.stack([histories.user, histories.item, window])
    order = np.lexsort((np.arange(key.shape[1]), *key[::-1]))
    last = np.ones(key.shape[1], bool)
    last[order[:-1]] = (np.diff(key[:, order], axis=1) != 0).any(axis=0)
    return last


def profile(histories: Histories, request_us: np.ndarray, span: str, tables: ItemTables, binary: bool = False) -> sp.csr_matrix:
    """[U, I] float32: weights summed per user and item (`binary`: 1 for every item met); events without a column are left out."""
    weights = event_weights(histories, request_us, span)
    columns, width = tables.columns(histories.item), max(tables.n_items, 1)
    known = columns >= 0
    cells, place = np.unique(histories.user[known] * width + columns[known], return_inverse=True)
    # bincount adds one by one in the order of the events; a pairwise sum would depend on where a user lies in the batch
    sums = np.ones(len(cells)) if binary else np.bincount(place, weights[known], minlength=len(cells))
    rows, cols = np.divmod(cells, width)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(histories)))])
    return sp.csr_matrix((sums.astype(np.float32), cols.astype(np.int32), indptr), shape=(len(histories), tables.n_items))


def shares(profiles: sp.csr_matrix) -> sp.csr_matrix:
    """Every row divided by its sum, so that long and short histories speak equally loud."""
    rows = np.repeat(np.arange(profiles.shape[0]), np.diff(profiles.indptr))
    total = np.bincount(rows, profiles.data, minlength=profiles.shape[0])
    data = (profiles.data / np.maximum(total, 1e-300)[rows]).astype(np.float32)
    return sp.csr_matrix((data, profiles.indices, profiles.indptr), shape=profiles.shape)


def dense_block(matrix: sp.csr_matrix, lo: int, hi: int) -> np.ndarray:
    """Columns lo:hi of [U, I] as a plain array."""
    return (matrix if (lo, hi) == (0, matrix.shape[1]) else matrix[:, lo:hi]).toarray()


def own_event(histories: Histories, weights: np.ndarray, tables: ItemTables, columns: np.ndarray) -> np.ndarray:
    """[U, K] the user's event on the listed item itself with the largest weight [E] (the newest of equals); -1 where there is none."""
    mine, out = tables.columns(histories.item), np.full(columns.shape, -1, np.int64)
    for u in range(len(histories)):
        a, b = histories.offsets[u], histories.offsets[u + 1]
        if a < b:
            speaks = np.where(mine[a:b, None] == np.where(columns[u] < 0, -2, columns[u]), weights[a:b, None], -1.0)
            out[u] = _newest_strongest(speaks, a)
    return out


def speaking_event(histories: Histories, weights: np.ndarray, tables: ItemTables, columns: np.ndarray, links: Links) -> np.ndarray:
    """[U, K] the user's event whose weight [E] times link to the listed item is largest and above 0; -1 where there is none.

    `links(have, listed)`: [len(have), len(listed)] how much an item the user has speaks for a listed one.
    """
    mine, out = tables.columns(histories.item), np.full(columns.shape, -1, np.int64)
    for u in range(len(histories)):
        a, b = histories.offsets[u], histories.offsets[u + 1]
        if a < b:
            speaks = weights[a:b, None] * links(np.maximum(mine[a:b], 0), np.maximum(columns[u], 0))
            speaks[mine[a:b] < 0] = -1.0
            speaks[:, columns[u] < 0] = -1.0
            out[u] = _newest_strongest(np.where(speaks > 0, speaks, -1.0), a)
    return out


def _newest_strongest(speaks: np.ndarray, first: int) -> np.ndarray:
    """Row of the largest value in each column of [events, K], counted from `first`; -1 where no value is 0 or more."""
    row = len(speaks) - 1 - np.argmax(speaks[::-1], axis=0)
    return np.where(speaks[row, np.arange(speaks.shape[1])] >= 0, first + row, -1)
