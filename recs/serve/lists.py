"""From a model's scores to lists: retrieve, arrange under the rules, fill up with what is popular now.

Shapes: U users, I items (columns of the item tables), K list length.

    retrieve    the best candidates of every user among what the rules allow: K of them, or a few times K where caps or MMR choose
    arrange     K of the candidates under cap and MMR; when full categories leave a list short, the next best outside them
    fill        fewer than K: the items most popular lately, under the same rules; `filled` marks them
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.models.base import Model
from recs.models.popularity import popularity_of

from .rules import Forbidden, Rules, arrange

CANDIDATES_PER_RANK = 5     # among which caps and MMR choose
FALLBACK_STAT = "decay_10d"     # long enough for a shop, short enough that last year's items do not lead


@dataclass
class Lists:
    """Columns [U, K] int32 (-1 = no item), scores [U, K] float32, and which were filled in [U, K] bool."""

    columns: np.ndarray
    scores: np.ndarray
    filled: np.ndarray


@dataclass(frozen=True)
class Asked:
    """One batch of requests: whose history, for which instant [U], and what is blocked for each (integers of item_vocabulary)."""

    histories: Histories
    request_us: np.ndarray
    blocked: list[np.ndarray]

    def take(self, users: np.ndarray) -> Asked:
        """Some of the requests."""
        return Asked(self.histories.take(users), self.request_us[users], [self.blocked[u] for u in users])


def best(asked: Asked, model: Model, tables: ItemTables, rules: Rules, k: int, block: int) -> Lists:
    """The model's own lists; shorter than K where it has no finite score for more allowed items."""
    plain = rules.category_cap is None and rules.mmr_lambda >= 1
    width = k if plain else min(k * CANDIDATES_PER_RANK, max(tables.n_items, k))
    forbidden = Forbidden(rules, asked.histories, asked.request_us, tables, asked.blocked)
    columns, scores = model.retrieve(asked.histories, asked.request_us, tables, width, forbidden, block)
    out = Lists(*arrange(columns, scores, k, rules, tables), np.zeros((len(asked.histories), k), bool))
    if rules.category_cap is not None:
        _complete(out, columns[:, -1] >= 0, asked, model, tables, rules, block)
    return out


def _complete(out: Lists, more: np.ndarray, asked: Asked, model: Model, tables: ItemTables, rules: Rules, block: int) -> None:
    """Go on outside the full categories for users whose candidates were mostly of these; `more` [U]: may there be others?

    What a short list left over of its candidates lies in full categories: leaving these and the chosen items out, the next
    retrieval goes on where the last one stopped.  Every round fills a list, fills a category or ends.
    """
    category = np.asarray(tables.array("category"))
    index = np.asarray(tables.array("item_index"))
    k = out.columns.shape[1]
    while len(short := np.flatnonzero(more & (out.columns[:, -1] < 0))):
        some = asked.take(short)
        chosen = [out.columns[u][out.columns[u] >= 0] for u in short]
        counts = [np.unique(category[c], return_counts=True) for c in chosen]
        full = [c[(n >= rules.category_cap) & (c >= 0)] for c, n in counts]
        blocked = [np.concatenate([b, index[c]]) for b, c in zip(some.blocked, chosen, strict=True)]
        forbidden = Forbidden(rules, some.histories, some.request_us, tables, blocked, full)
        width = min(k * CANDIDATES_PER_RANK, max(tables.n_items, k))
        columns, scores = model.retrieve(some.histories, some.request_us, tables, width, forbidden, block)
        used = np.stack([_counts_of(category[np.maximum(c, 0)], n) for c, n in zip(columns, counts, strict=True)])
        columns_k, scores_k = arrange(columns, scores, k, rules, tables, used)
        for row, u in enumerate(short):
            _append(out, u, columns_k[row], scores_k[row])
        more[short] = columns[:, -1] >= 0


def _counts_of(category: np.ndarray, counts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """[C]: how many items of each candidate's category the list already holds."""
    names, n = counts
    at = np.searchsorted(names, category)
    known = (at < len(names)) & (names[np.minimum(at, len(names) - 1)] == category) if len(names) else np.zeros(len(category), bool)
    return np.where(known, n[np.minimum(at, max(len(names) - 1, 0))] if len(names) else 0, 0)


def _append(out: Lists, user: int, columns: np.ndarray, scores: np.ndarray, filled: bool = False) -> None:
    """Put items behind those the list holds, up to K."""
    k = out.columns.shape[1]
    have = int((out.columns[user] >= 0).sum())
    n = min(k - have, int((columns >= 0).sum()))
    out.columns[user, have : have + n] = columns[:n]
    out.scores[user, have : have + n] = scores[:n]
    out.filled[user, have : have + n] = filled


def fill(out: Lists, asked: Asked, tables: ItemTables, rules: Rules) -> None:
    """Bring short lists to K with the items most popular lately, under the same rules; in place.  Still short when nothing is left."""
    short = np.flatnonzero(out.columns[:, -1] < 0)
    if not len(short):
        return
    some = asked.take(short)
    forbidden = Forbidden(rules, some.histories, some.request_us, tables, some.blocked)
    score = popularity_of(tables, FALLBACK_STAT)
    for row, u in enumerate(short):
        open_now = _open_by_popularity(tables, rules.blocked, int(some.request_us[row]))
        have = out.columns[u][out.columns[u] >= 0]
        out_of = np.concatenate([forbidden.columns_of(row), have])
        columns = first_allowed(open_now, out_of, have, out.columns.shape[1], rules.category_cap, np.asarray(tables.array("category")))
        _append(out, u, columns, score[columns], filled=True)


def empty_lists(n_users: int, k: int) -> Lists:
    """Lists without an item, to be filled."""
    return Lists(np.full((n_users, k), -1, np.int32), np.full((n_users, k), -np.inf, np.float32), np.zeros((n_users, k), bool))


@lru_cache(maxsize=2)
def _by_popularity(tables: ItemTables) -> np.ndarray:
    """Columns, most popular lately first, ties by item id."""
    return np.argsort(-popularity_of(tables, FALLBACK_STAT), kind="stable")


@lru_cache(maxsize=8)   # a night asks for one instant
def _open_by_popularity(tables: ItemTables, blocked: tuple[int, ...], request_us: int) -> np.ndarray:
    """Columns that everybody may be shown at this instant, most popular lately first."""
    order = _by_popularity(tables)
    is_open = (tables.array("available_from") <= request_us) & (request_us < tables.array("available_until"))
    is_open[[c for c in tables.columns(np.array(blocked, np.int64)) if c >= 0]] = False
    return order[is_open[order]].astype(np.int32)


def first_allowed(
    order: np.ndarray, out_of: np.ndarray, have: np.ndarray, k: int, category_cap: int | None, category: np.ndarray,
) -> np.ndarray:
    """The first items of `order` that a list of k with `have` in it may still take, as many as it lacks; `category` [I], -1 = none."""
    need = k - len(have)
    size = need + len(out_of)
    while True:
        pool = order[:size]
        pool = pool[~np.isin(pool, out_of)]
        if category_cap is not None:
            pool = pool[_under_cap(pool, have, category_cap, category)]
        if len(pool) >= need or size >= len(order):
            return pool[:need]
        size *= 4


def _under_cap(pool: np.ndarray, have: np.ndarray, cap: int, category: np.ndarray) -> np.ndarray:
    """[P] bool: taking the pool in order after `have`, does the item still fit into its category?"""
    both = category[np.concatenate([have, pool])]
    order = np.argsort(both, kind="stable")
    grouped = both[order]
    first = np.searchsorted(grouped, grouped)       # where each category starts
    place = np.empty(len(both), np.int64)
    place[order] = np.arange(len(both)) - first
    return ((place < cap) | (both < 0))[len(have) :]
