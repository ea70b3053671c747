"""What the user repeats: own items by decayed recency and frequency, then what is popular now.

    own(u, i) = sum over u's events on i of 2^(-age / half-life)        the span says in what the age is measured
    score     = 22 + log2 own(u, i) + lift * popularity(i)              where u met i; own is floored at 2^-20, so this is at least 2
              = popularity(i) in 0..1                                   elsewhere

The lift lets the fashion of the day decide between own items that fade alike (a basket shares one instant).  Where
repeats are not allowed only the second part remains.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.evidence.profiles import dense_block, event_weights, own_event, profile

from .base import REASONS, Model, Reasons, Scorer, Setting
from .popularity import popularity_of


class Personal(Model):
    """Own items first."""

    name = "personal"

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        stat = "decay_10d" if setting.clock else "users_all"
        if not setting.repeats:
            return [{"span": "all", "lift": 0.1, "stat": stat}]
        spans = ("30d", "14a", "60d", "7a", "90d", "28a", "14d", "180d", "all") if setting.clock else ("10e", "3e", "30e", "all")
        return [{"span": span, "lift": lift, "stat": stat} for lift in (0.1, 1.0, 3.0) for span in spans]

    @classmethod
    def needs(cls, params: dict[str, Any]) -> frozenset[str]:
        return frozenset()

    def scorer(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
        own = profile(histories, request_us, self.params["span"], tables)
        own.data = (22.0 + np.log2(np.maximum(own.data, 2.0**-20))).astype(np.float32)
        popular = popularity_of(tables, self.params["stat"])
        lift = np.float32(self.params["lift"])

        def score(lo: int, hi: int) -> np.ndarray:
            mine = dense_block(own, lo, hi)
            return np.where(mine > 0, mine + lift * popular[lo:hi], popular[lo:hi])

        return score

    def explain(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> Reasons:
        weights = event_weights(histories, request_us, self.params["span"])
        event = own_event(histories, weights, tables, columns)
        code = np.where(event >= 0, REASONS.index("repeat"), REASONS.index("popular"))
        return Reasons(code.astype(np.int8), event)
