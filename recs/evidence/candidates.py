"""Which items are looked at closely: the union of what many sources propose for a user, a few hundred of a catalogue of any size.

    source              proposes                                                            at most
    own                 his own items, by decayed frequency and by active days              200 and 100
    a kind of table     what speaks from his history, by each of some profile spans         `each`
    popular             items by decayed and all-time popularity                            `each` per statistic
    new                 the newest items                                                    half of `each`
    rising              items whose last three days outdo their last two weeks              half of `each`

Only items that may be listed are proposed, and all sources but `own` leave out what the user has met.  The recall of the truth
among the candidates is the ceiling of whatever ranks them (`recall` in a model's metrics).

Shapes: U users, I items, P pairs (user, item) of all users together, those of one user one after another, ascending by column.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from .histories import Histories
from .item_tables import ItemTables
from .own import Own
from .spoken import Spoken

CELLS = 1 << 26         # users x items whose permission is asked at a time: 64 MB
OWN_BY_DECAY, OWN_BY_DAYS = 200, 100
POPULAR = ("decay_6h", "decay_12h", "decay_1d", "decay_3d", "decay_10d", "decay_30d", "users_all")

Mask = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Pairs:
    """Candidates of some users: user u owns the columns offsets[u]:offsets[u + 1], ascending."""

    offsets: np.ndarray     # [U + 1] int64
    column: np.ndarray      # [P] int64

    @property
    def user(self) -> np.ndarray:
        """[P] int64: whose candidate it is."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @classmethod
    def of_padded(cls, columns: np.ndarray) -> tuple[Pairs, np.ndarray]:
        """From columns [U, C] (-1 = none): the pairs, and where each stands in the padded array (flat position [P])."""
        order = np.argsort(np.where(columns < 0, np.iinfo(np.int64).max, columns), axis=1, kind="stable")
        there = np.take_along_axis(columns, order, 1) >= 0
        user, place = np.nonzero(there)
        at = order[user, place]
        offsets = np.concatenate([[0], np.cumsum((columns >= 0).sum(axis=1))]).astype(np.int64)
        return cls(offsets, columns[user, at].astype(np.int64)), user * columns.shape[1] + at

    def take(self, keep: np.ndarray) -> Pairs:
        """The pairs for which `keep` [P] is true."""
        counts = np.bincount(self.user[keep], minlength=len(self.offsets) - 1)
        return Pairs(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), self.column[keep])


def candidates(
    histories: Histories, tables: ItemTables, own: Own, spoken: Spoken, forbidden: Mask | None, each: int = 40, repeats: bool = True,
) -> Pairs:
    """The candidates of every user; `own` and `spoken` are of the same histories."""
    everybody = _for_everybody(tables, each)
    offsets, columns = [0], []
    step = max(1, CELLS // max(tables.n_items, 1))
    for lo in range(0, len(histories), step):
        hi = min(lo + step, len(histories))
        shut = _shut(forbidden, tables.n_items, lo, hi, len(histories))
        chosen = np.zeros((hi - lo, tables.n_items), bool)
        if repeats:
            for user, column in own.best(OWN_BY_DECAY, OWN_BY_DAYS):
                here = (user >= lo) & (user < hi)
                chosen[user[here] - lo, column[here]] = True
        fresh = ~shut
        mine = (own.user >= lo) & (own.user < hi)
        fresh[own.user[mine] - lo, own.column[mine]] = False
        for values in spoken.matrices:
            _mark_best(chosen, values[lo:hi], fresh, each)
        for order, n in everybody:
            _mark_first(chosen, order, fresh, n)
        chosen &= ~shut
        offsets += (offsets[-1] + np.cumsum(chosen.sum(axis=1))).tolist()
        columns.append(np.nonzero(chosen)[1])
    return Pairs(np.array(offsets, np.int64), np.concatenate([*columns, np.empty(0, np.int64)]).astype(np.int64))


def _shut(forbidden: Mask | None, n_items: int, lo: int, hi: int, n_users: int) -> np.ndarray:
    """[hi - lo, I] bool: what these users may not be shown."""
    if forbidden is None:
        return np.zeros((hi - lo, n_items), bool)
    if (lo, hi) == (0, n_users):
        return forbidden(0, n_items)
    parts, block = [], max(1, CELLS // n_users)
    for a in range(0, n_items, block):
        parts.append(forbidden(a, min(a + block, n_items))[lo:hi])
    return np.concatenate(parts, axis=1)


def _mark_best(chosen: np.ndarray, values: sp.csr_matrix, allowed: np.ndarray, k: int) -> None:
    """Mark each row's k greatest positive values among the allowed columns; ties go to the lower column."""
    row = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    keep = (values.data > 0) & allowed[row, values.indices]
    row, column, value = row[keep], values.indices[keep], values.data[keep]
    ends = np.cumsum(np.bincount(row, minlength=values.shape[0]))
    least = np.zeros(values.shape[0], value.dtype)      # what is below the k-th of its row need not be sorted
    for u in np.flatnonzero(np.diff(ends, prepend=0) > k):
        mine = value[ends[u - 1] if u else 0 : ends[u]]
        least[u] = np.partition(mine, len(mine) - k)[len(mine) - k]
    high = value >= least[row]
    row, column, value = row[high], column[high], value[high]
    order = np.lexsort((column, -value, row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    chosen[row[place < k], column[place < k]] = True


def _mark_first(chosen: np.ndarray, order: np.ndarray, allowed: np.ndarray, k: int) -> None:
    """Mark the first k allowed items of an order that is the same for everybody; few need more than its beginning."""
    todo, width = np.arange(len(allowed)), 4 * k
    while len(todo):
        first = order[:width]
        free = allowed[np.ix_(todo, first)]
        free &= np.cumsum(free, axis=1) <= k
        user, place = np.nonzero(free)
        chosen[todo[user], first[place]] = True
        if width >= len(order):
            return
        todo, width = todo[free.sum(axis=1) < k], width * 4


def _for_everybody(tables: ItemTables, each: int) -> list[tuple[np.ndarray, int]]:
    """Orders of the catalogue [I], and how many of each are proposed."""
    def best_first(score: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
        order = np.argsort(-np.asarray(score, np.float64), kind="stable")
        return order if keep is None else order[keep[order]]

    stats = {name: np.asarray(tables.stat(name), np.float64) for name in ("users_3d", "users_14d", "first_h")}
    rising = np.log((stats["users_3d"] / 3 + 0.2) / (stats["users_14d"] / 14 + 0.1))
    orders: Iterator[tuple[np.ndarray, int]] = ((best_first(tables.stat(name)), each) for name in POPULAR)
    return [
        *orders,
        (best_first(-stats["first_h"], stats["first_h"] < 14 * 24), each // 2),
        (best_first(rising, stats["users_3d"] >= 2), each // 2),
    ]
