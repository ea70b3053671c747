"""Items beside those the user has: sparse item x item neighbours, summed over the history.

    score(u, i) = sum over j in u's profile of share(u, j) * N[j, i]  +  own * share(u, i)  +  1e-6 * popularity(i)

N is a table of neighbours (recs/evidence/item_tables.py): co-occurrence cosine (Sarwar et al., WWW 2001; Deshpande and
Karypis, TOIS 2004), transitions, or votes of recent adopters, which are user-based neighbourhoods (Resnick et al., CSCW 1994)
written as an item x item product.  `own` says how much an item speaks for itself, where repeats are allowed.
"""
from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import scipy.sparse as sp

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.evidence.profiles import Links, dense_block, event_weights, own_event, profile, shares, speaking_event

from .base import REASONS, Model, Reasons, Scorer, Setting
from .popularity import popularity_of


def links_of(tables: ItemTables, kind: str) -> Links:
    """How much one item speaks for another by the table `kind`, looked up for a few at a time."""
    if kind.startswith("ease:"):
        dense = tables.dense(kind)
        return lambda have, listed: dense[np.ix_(have, listed)]
    sparse = tables.neighbours(kind)
    return lambda have, listed: sparse[have][:, listed].toarray()


class ItemToItem(Model):
    """Neighbours of what the user has."""

    name = "item_to_item"

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        kinds = ("cooc:20", "cooc", "adopters", "transitions") if setting.clock else ("cooc:20", "cooc", "transitions")
        return cls._grid(setting, kinds)

    @classmethod
    def _grid(cls, setting: Setting, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        spans = ("90d", "14d", "all", "2e") if setting.clock else ("10e", "2e", "all")
        own = (1.0, 0.3, 0.1, 0.0) if setting.repeats else (0.0,)
        return [{"kind": k, "span": s, "own": o} for k, s, o in product(kinds, spans, own)]

    @classmethod
    def needs(cls, params: dict[str, Any]) -> frozenset[str]:
        return frozenset({params["kind"]})

    def profile(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> sp.csr_matrix:
        """[U, I] shares of the history."""
        span = self.params["span"]
        return shares(profile(histories, request_us, span, tables, binary=span == "all"))

    def spoken_for(self, mine: sp.csr_matrix, tables: ItemTables) -> Scorer:
        """What the neighbours of a profile add up to."""
        found = (mine @ tables.neighbours(self.params["kind"])).tocsr()    # row by row: no user's sum sees another's
        return lambda lo, hi: dense_block(found, lo, hi)

    def scorer(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
        mine = self.profile(histories, request_us, tables)
        others = self.spoken_for(mine, tables)
        own, popular = np.float32(self.params["own"]), np.float32(1e-6) * popularity_of(tables, "users_all")

        def score(lo: int, hi: int) -> np.ndarray:
            total = others(lo, hi) + popular[lo:hi]
            return total + own * dense_block(mine, lo, hi) if own else total

        return score

    def explain(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> Reasons:
        kind = self.params["kind"]
        weights = event_weights(histories, request_us, self.params["span"])
        event = speaking_event(histories, weights, tables, columns, links_of(tables, kind))
        reason = REASONS.index("similar_users" if kind.startswith("adopters") else "neighbour")
        code = np.where(event >= 0, reason, REASONS.index("popular"))
        if self.params["own"]:      # an item the user has speaks for itself louder than its neighbours do
            itself = own_event(histories, weights, tables, columns)
            code, event = np.where(itself >= 0, REASONS.index("repeat"), code), np.where(itself >= 0, itself, event)
        return Reasons(code.astype(np.int8), event)
