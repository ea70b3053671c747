"""What items have to do with each other, from many users' histories: sums over pairs of items that may be added up in parts.

The rows of the story, for one part of the users:

    events of ann       a(Mon) b(Mon) a(Tue) c(Wed)             oldest first, before the cut
    newest items        a(Tue) b(Mon) c(Wed)                    each item once, at its latest meeting; at most `max_items`
    cooc                a-b, a-c, b-c (and a-a, b-b, c-c) += 1  users who know both
    together            a-b (and a-a, b-b, a-a, c-c) += 1       days (UTC) of a user on which he met both
    transitions         a->b, b->a, a->c += 2^(-age / half-life)
    follows:2:72        a->b, b->a, a->c, and two events apart, within 72 hours, half as much: b->c
    adopters            j->i += 2^(-age of i / half-life) / norm(ann)     for every item j that ann knows and i she met lately

Parts are added, each row is normalised and keeps its best neighbours.  **The sums are integers**: a count, or a weight rounded to
a multiple of 2^-30, so that they are the same bit for bit in whatever parts and order the users come (an int64 holds 2^33
weights of 1).  A weight below 2^-31 is nothing: 31 half-lives.

The cost of one user is at most `max_items` squared, whatever he did; users are taken in chunks of bounded cost.

Shapes: U users, E events, I items (columns of the item tables), V integers of item_vocabulary.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
QUANTUM = 2.0**-30          # weights are stored as multiples of it
PAIRS_PER_CHUNK = 1 << 22   # pairs of items multiplied at a time: 50 MB
TRANSITION_SHRINK = 5.0     # a row of transitions with less weight than this is mostly doubt
EASE_BLOCK = 1 << 24        # entries of the inverse turned into weights at a time
EASE_DOUBLE_ITEMS = 6000    # above, EASE is solved in float32 (15,000 items: 0.9 GB)


@dataclass(frozen=True)
class Meetings:
    """Users' events, one user after another, each oldest first: `item` [E] integers of item_vocabulary, `ts` [E] microseconds,
    `offsets` [U + 1] as in Histories."""

    offsets: np.ndarray
    item: np.ndarray
    ts: np.ndarray

    @property
    def user(self) -> np.ndarray:
        """[E] int64: whose event it is."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def users(self, start: int, stop: int) -> Meetings:
        """Users start:stop with their events."""
        a, b = self.offsets[start], self.offsets[stop]
        return Meetings(self.offsets[start : stop + 1] - a, self.item[a:b], self.ts[a:b])


@dataclass(frozen=True)
class PairRules:
    """What the sums depend on beside the events."""

    cut_us: int
    columns: np.ndarray         # [V] int32: column of an item of the vocabulary, -1 = none
    idf: np.ndarray             # [I] float64: log((users + 1) / (users who know the item + 1))
    max_items: int              # newest distinct items of a user that form pairs
    transition_gap_us: int      # events further apart are no transition
    transition_half_life_d: float

    @property
    def n_items(self) -> int:
        """I, items with a column."""
        return len(self.idf)

    def column_of(self, item: np.ndarray) -> np.ndarray:
        """Columns of vocabulary integers; -1 for items without one."""
        inside = item < len(self.columns)
        return np.where(inside, self.columns[np.where(inside, item, 0)] if len(self.columns) else -1, -1)


def inverse_frequency(users_met: np.ndarray, n_users: int) -> np.ndarray:
    """[I] float64 idf: what knowing an item says about a user, nothing when everybody knows it."""
    return np.log((n_users + 1.0) / (np.minimum(users_met, n_users) + 1.0))


def chunks(meetings: Meetings, max_items: int) -> Iterator[Meetings]:
    """The users in runs of at most PAIRS_PER_CHUNK pairs (one user alone may exceed it)."""
    cost = np.cumsum(np.minimum(np.diff(meetings.offsets), max_items).astype(np.int64) ** 2)
    start = 0
    while start < len(cost):
        done = cost[start - 1] if start else 0
        stop = max(int(np.searchsorted(cost, done + PAIRS_PER_CHUNK, side="right")), start + 1)
        yield meetings.users(start, stop)
        start = stop


def newest_items(meetings: Meetings, max_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each user's newest `max_items` distinct items: user, item, instant of the latest meeting; by user and item.

    Of two items met at the same instant the later one in the history is the newer.
    """
    user, n = meetings.user, len(meetings.item)
    if not n:
        return user, meetings.item, meetings.ts
    width = int(meetings.item.max()) + 1
    key, from_end = np.unique((user * width + meetings.item)[::-1], return_index=True)
    latest = n - 1 - from_end
    owner = key // width
    newest_first = np.lexsort((-latest, owner))
    begins = np.searchsorted(owner, owner)      # where the user's items begin
    age_rank = np.empty(len(key), np.int64)
    age_rank[newest_first] = np.arange(len(key)) - begins
    keep = age_rank < max_items
    return owner[keep], (key % width)[keep], meetings.ts[latest[keep]]


def pair_sums(meetings: Meetings, rules: PairRules, sums: Iterable[str]) -> dict[str, sp.csr_matrix]:
    """The sums of these users by name, each [I, I] int64: `cooc`, `transitions`, `together`, `follows:<events>:<hours>`,
    `adopters:<days>`.

    Row = item the user has, column = item it speaks for.  `cooc` has its diagonal (users who know the item), the others not.
    """
    user, item, ts = newest_items(meetings, rules.max_items)
    column = rules.column_of(item)
    known = column >= 0
    user, column, ts = user[known], column[known], ts[known]
    shape = (len(meetings.offsets) - 1, rules.n_items)
    knows = sp.csr_matrix((np.ones(len(user), np.int64), (user, column)), shape=shape)
    out = {}
    for name in sums:
        if name == "cooc":
            out[name] = (knows.T @ knows).tocsr()
        elif name == "together":
            out[name] = _together(meetings, rules)
        elif name == "transitions":
            out[name] = _follows(meetings, rules, 1, rules.transition_gap_us)
        elif name.startswith("follows:"):
            events, hours = map(float, name.split(":")[1:])
            out[name] = _follows(meetings, rules, int(events), int(hours * HOUR_US))
        else:
            weight = _votes(user, column, ts, rules, float(name.split(":")[1]), shape[0])
            met_lately = sp.csr_matrix((weight[weight > 0], (user[weight > 0], column[weight > 0])), shape=shape)
            out[name] = _without_diagonal((knows.T @ met_lately).tocsr())
    return out


def _votes(user: np.ndarray, column: np.ndarray, ts: np.ndarray, rules: PairRules, half_life_d: float, n_users: int) -> np.ndarray:
    """Weight of each (user, item) vote: fresh meetings count, and a user's votes are divided by the norm of what he knows.

    Norm sqrt(1 + sum idf^2): the 1 shrinks users who know little.
    """
    norm = np.sqrt(1.0 + np.bincount(user, rules.idf[column] ** 2, minlength=n_users))
    age_d = np.maximum(rules.cut_us - ts, 0) / DAY_US
    return np.rint(np.exp2(-age_d / half_life_d) / norm[user] / QUANTUM).astype(np.int64)


def _together(meetings: Meetings, rules: PairRules) -> sp.csr_matrix:
    """Items of one user and one UTC day, as `cooc` counts those of one user: the newest `max_items` of each day."""
    if not len(meetings.item):
        return sp.csr_matrix((rules.n_items, rules.n_items), dtype=np.int64)
    day = meetings.ts // DAY_US
    begins = np.flatnonzero(np.concatenate([[True], (np.diff(meetings.user) != 0) | (np.diff(day) != 0)]))
    days = Meetings(np.append(begins, len(meetings.item)), meetings.item, meetings.ts)
    row, item, _ = newest_items(days, rules.max_items)
    column = rules.column_of(item)
    known = column >= 0
    met = sp.csr_matrix((np.ones(known.sum(), np.int64), (row[known], column[known])), shape=(len(begins), rules.n_items))
    return (met.T @ met).tocsr()


def _follows(meetings: Meetings, rules: PairRules, events: int, gap_us: int) -> sp.csr_matrix:
    """Pairs of a user's events at most `events` apart and less than the gap, on two different items: 2^(-age of the later) / distance."""
    user, column, ts = meetings.user, rules.column_of(meetings.item), meetings.ts
    found = sp.csr_matrix((rules.n_items, rules.n_items), dtype=np.int64)
    for apart in range(1, events + 1):
        then, now = slice(None, -apart), slice(apart, None)
        follows = (user[now] == user[then]) & (ts[now] - ts[then] < gap_us) & (column[now] != column[then])
        follows &= (column[now] >= 0) & (column[then] >= 0)
        age_d = np.maximum(rules.cut_us - ts[now][follows], 0) / DAY_US
        weight = np.rint(np.exp2(-age_d / rules.transition_half_life_d) / apart / QUANTUM).astype(np.int64)
        found = found + sp.coo_matrix((weight, (column[then][follows], column[now][follows])), shape=found.shape).tocsr()
    return found


def _without_diagonal(m: sp.csr_matrix) -> sp.csr_matrix:
    row = np.repeat(np.arange(m.shape[0]), np.diff(m.indptr))
    return keep_entries(m, m.indices != row)


def keep_entries(m: sp.csr_matrix, keep: np.ndarray) -> sp.csr_matrix:
    """The stored entries for which `keep` [nnz] is true."""
    ends = np.concatenate([[0], np.cumsum(keep)])[m.indptr]
    return sp.csr_matrix((m.data[keep], m.indices[keep], ends), shape=m.shape)


# ---- from sums to neighbours: a block of rows, whole -------------------------------------------------------------------------


def cosine(counts: sp.csr_matrix, first_row: int, users_met: np.ndarray, shrink: float = 0.0) -> sp.csr_matrix:
    """Rows first_row, first_row + 1, … of `cooc` or `together`: n_ij / (sqrt(n_i n_j) + shrink), without the diagonal."""
    row = first_row + np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    root = np.sqrt(users_met.astype(np.float64))
    value = counts.data / (root[row] * root[counts.indices] + shrink)
    full = sp.csr_matrix((value.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
    return keep_entries(full, counts.indices != row)


def next_item_shares(sums: sp.csr_matrix) -> sp.csr_matrix:
    """Rows of `transitions` and `follows`: weight / (weight of the row + TRANSITION_SHRINK)."""
    weight = sums.data * QUANTUM
    totals = _row_sums(sums) * QUANTUM
    row = np.repeat(np.arange(sums.shape[0]), np.diff(sums.indptr))
    share = (weight / (totals[row] + TRANSITION_SHRINK)).astype(np.float32)
    return sp.csr_matrix((share, sums.indices, sums.indptr), shape=sums.shape)


def _row_sums(m: sp.csr_matrix) -> np.ndarray:
    """[rows] int64, exact (no float on the way)."""
    return np.diff(np.concatenate([[0], np.cumsum(m.data)])[m.indptr])


def adopter_votes(sums: sp.csr_matrix, first_row: int, idf: np.ndarray) -> sp.csr_matrix:
    """Rows of `adopters`: times idf^2 of the item known, once for the asking user's profile and once for the voter's."""
    row = first_row + np.repeat(np.arange(sums.shape[0]), np.diff(sums.indptr))
    votes = (sums.data * QUANTUM * idf[row] ** 2).astype(np.float32)
    return sp.csr_matrix((votes, sums.indices, sums.indptr), shape=sums.shape)


def top_per_row(m: sp.csr_matrix, k: int) -> sp.csr_matrix:
    """The k greatest positive entries of every row, ties by the lower column; columns ascending inside a row."""
    m = keep_entries(m, m.data > 0)
    m.sort_indices()
    keep = np.ones(m.nnz, bool)
    for row in np.flatnonzero(np.diff(m.indptr) > k):
        a, b = m.indptr[row], m.indptr[row + 1]
        values = m.data[a:b]
        least = np.partition(values, b - a - k)[b - a - k]
        chosen = values > least
        tied = np.flatnonzero(values == least)
        chosen[tied[: k - int(chosen.sum())]] = True
        keep[a:b] = chosen
    return keep_entries(m, keep)


def top_of_dense(weights: np.ndarray, k: int) -> sp.csr_matrix:
    """`top_per_row` of a dense [I, I], a block of rows at a time."""
    blocks, step = [], max(1, EASE_BLOCK // max(len(weights), 1))
    for lo in range(0, len(weights), step):
        block = np.maximum(weights[lo : lo + step], 0)
        if k < block.shape[1]:      # what is below the k-th of its row cannot stay; ties are settled by top_per_row
            least = np.partition(block, block.shape[1] - k, axis=1)[:, block.shape[1] - k]
            block[block < least[:, None]] = 0
        blocks.append(top_per_row(sp.csr_matrix(block), k))
    return sp.vstack(blocks, format="csr") if blocks else sp.csr_matrix((0, 0), dtype=np.float32)


def ease_weights(counts: np.ndarray, regularisation: float) -> np.ndarray:
    """EASE (Steck, WWW 2019, equation 8): item weights [I, I] float32 from X'X; works inside `counts`, which is lost.

    P = (X'X + lambda)^-1, B = -P / diag(P) column by column, diagonal 0.  A user's scores are his binary row times B.
    """
    n = len(counts)
    if n == 0:
        return np.zeros((0, 0), np.float32)
    np.fill_diagonal(counts, counts.diagonal() + regularisation)
    # symmetric: its transpose is the same matrix in LAPACK's own order, so that nothing is copied
    factor = scipy.linalg.cholesky(counts.T, lower=True, overwrite_a=True, check_finite=False)
    (potri,) = scipy.linalg.lapack.get_lapack_funcs(("potri",), (factor,))
    lower, info = potri(factor, lower=True, overwrite_c=True)
    if info != 0:
        raise np.linalg.LinAlgError(f"EASE with lambda {regularisation:g}: the matrix of {n} items is singular; take a greater lambda")
    scale = -1.0 / lower.diagonal()
    weights = np.empty((n, n), np.float32)
    step = max(1, EASE_BLOCK // n)
    for lo in range(0, n, step):        # by blocks: no second matrix in double
        hi = min(lo + step, n)
        weights[lo:hi, :lo] = lower[lo:hi, :lo] * scale[:lo]
        block = np.tril(lower[lo:hi, lo:hi])
        weights[lo:hi, lo:hi] = (block + np.tril(block, -1).T) * scale[lo:hi]
        weights[lo:hi, hi:] = lower[hi:, lo:hi].T * scale[hi:]
    np.fill_diagonal(weights, 0.0)
    return weights
