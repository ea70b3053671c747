"""Popular items, the same list for everybody.

`popularity`: people who ever met the item, each once or once a day.  `recent_popularity`: once a day, halved every few hours or
days, or counted in a window before the cut.  What the log rewards is fitted (on news hours, in shops weeks).
"""
from __future__ import annotations

from typing import Any

import numpy as np

from recs.evidence.histories import Histories
from recs.evidence.item_tables import HALF_LIVES, WINDOWS, ItemTables

from .base import REASONS, Model, Reasons, Scorer, Setting


def popularity_of(tables: ItemTables, stat: str) -> np.ndarray:
    """[I] float32 in 0..1: a statistic as a share of its maximum; items equal in it stand by all-time day-users."""
    def share(name: str) -> np.ndarray:
        values = np.asarray(tables.stat(name), np.float64)
        return values / max(values.max(initial=0.0), 1e-12)

    return ((share(stat) + 1e-6 * share("users_all")) / (1 + 1e-6)).astype(np.float32)


class Popularity(Model):
    """Users of all time (among whose newest distinct items it is), or day-users: those who came back count again."""

    name = "popularity"
    personal = False

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        return [{"stat": "users_met"}, {"stat": "users_all"}]

    @classmethod
    def needs(cls, params: dict[str, Any]) -> frozenset[str]:
        return frozenset()

    def scorer(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
        values = popularity_of(tables, self.params["stat"])
        return lambda lo, hi: np.broadcast_to(values[lo:hi], (len(histories), hi - lo))

    def explain(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> Reasons:
        return Reasons(np.full(columns.shape, REASONS.index("popular"), np.int8), np.full(columns.shape, -1, np.int64))


class RecentPopularity(Popularity):
    """Day-users with a half-life or in a window before the cut."""

    name = "recent_popularity"

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        if not setting.clock:   # positions are not instants: no window means the same for two users
            return super().grid(setting)
        return [{"stat": f"decay_{h}"} for h in HALF_LIVES] + [{"stat": f"users_{w}"} for w in WINDOWS if w != "6h"]
