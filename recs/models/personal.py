"""What the user repeats: own items by decayed recency and frequency, then what is popular now.

    own(u, i) = sum over u's events on i of 2^(-age / half_life)            age to the request, in days, or in the user's
                                                                            own active days (one count per item and day)
    score     = 62 + log2 own(u, i)     where u met i: at least 2 (decay is floored at 2^-60)
              = popularity(i) in 0..1   elsewhere

A day is counted back from the request in steps of 24 hours; active days are those with any event of the user, so a user
who comes monthly is not judged by the calendar.  Where repeats are not allowed only the second part remains.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables

from .base import REASONS, Model, Reasons, Scorer, Setting
from .popularity import popularity_of
from .profiles import ages_d, decay, dense_block, own_event, profile


def active_days_back(histories: Histories, request_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[E] how many of the user's own active days lie after the event's, and [E] its 24-hour window counted back from the request."""
    window = np.floor(ages_d(histories, request_us)).astype(np.int64)
    user = histories.user
    order = np.lexsort((window, user))
    new_day = np.diff(window[order], prepend=-1) != 0
    first = np.diff(user[order], prepend=-1) != 0
    rank = np.cumsum(new_day | first)
    back = np.empty(len(user), np.int64)
    back[order] = rank - np.maximum.accumulate(np.where(first, rank, 0))
    return back, window


def own_weights(histories: Histories, request_us: np.ndarray, half_life: float | None, active_days: bool) -> np.ndarray:
    """[E] weight of each event for its own item; of several on one item and active day the last counts."""
    if not active_days:
        return decay(ages_d(histories, request_us), half_life)
    back, window = active_days_back(histories, request_us)
    key = np.stack([histories.user, histories.item, window])
    order = np.lexsort((np.arange(key.shape[1]), *key[::-1]))
    last = np.ones(key.shape[1], bool)
    last[order[:-1]] = (np.diff(key[:, order], axis=1) != 0).any(axis=0)
    return np.where(last, decay(back, half_life), 0.0)


class Personal(Model):
    """Own items first."""

    name = "personal"

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        stat = "decay_10d" if setting.clock else "users_all"
        if not setting.repeats:
            return [{"half_life": None, "active_days": False, "stat": stat}]
        if not setting.clock:
            return [{"half_life": h, "active_days": False, "stat": stat} for h in (10, 3, 30, None)]
        by_clock = [{"half_life": h, "active_days": False, "stat": stat} for h in (30, 7, 14, 60, 180, None)]
        return by_clock + [{"half_life": h, "active_days": True, "stat": stat} for h in (7, 2, 4, 14, 28, 60)]

    @classmethod
    def needs(cls, params: dict[str, Any]) -> frozenset[str]:
        return frozenset()

    def weights(self, histories: Histories, request_us: np.ndarray) -> np.ndarray:
        return own_weights(histories, request_us, self.params["half_life"], self.params["active_days"])

    def scorer(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
        own = profile(histories, self.weights(histories, request_us), tables)
        own.data = (62.0 + np.log2(np.maximum(own.data, 2.0**-60))).astype(np.float32)
        popular = popularity_of(tables, self.params["stat"])

        def score(lo: int, hi: int) -> np.ndarray:
            mine = dense_block(own, lo, hi)
            return np.where(mine > 0, mine, popular[lo:hi])

        return score

    def explain(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> Reasons:
        event = own_event(histories, self.weights(histories, request_us), tables, columns)
        code = np.where(event >= 0, REASONS.index("repeat"), REASONS.index("popular"))
        return Reasons(code.astype(np.int8), event)
