"""What a user has done with an item himself: how often, how lately, how regularly, and whether it is due.

    ann's events      tea(Mon 8:00) mug(Mon 8:05) tea(Tue 8:10) tea(Thu 8:00)       request Fri 8:00
    cells             (ann, mug)  (ann, tea)
    count             1           3
    age, days         3.997       1.0           since the last
    active days back  2           0             her active days since the last (24-hour windows counted back from the request)
    decay_7d          .67         .67 + .75 + .91
    due               .           1.0 / 1.5     age over her mean gap with the item
    after             1.5         2.25          what followed her newest items earlier on: after her tea it was a mug, then tea

All sums run over a user's own events in their own order, one at a time (`bincount`): a cell has the same bits in any batch.

Shapes: U users, E events on items that the tables know, N cells (user, item) with an event, F features.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recs.clock import DAY, HOUR

from .histories import Histories
from .item_tables import ItemTables

HALF_LIVES_D = (1, 3, 7, 14, 30, 90)
BACK = {"fast": 0.7, "mid": 0.9, "slow": 0.97}      # weight per active day back
WEEK = 7 * DAY
STANDS, FOLLOWED = 3, 4     # newest events that say where a user stands; events after an earlier one of the same item that are counted
NEVER_D = 3650.0    # where there is no event, gap or return, a time of ten years stands
# feature -> family, see features.py
NAMES = {
    "met": "own", "count": "own", "share": "own", "events_back": "own", "recent_3e": "own", "recent_10e": "own", "value": "own",
    "after": "own", "after_share": "own",
    "count_days": "repeat", **{f"decay_{h}d": "repeat" for h in HALF_LIVES_D},
    **{f"share_{h}d": "repeat" for h in (7, 30, 90)},
    **{f"days_{name}": "repeat" for name in BACK}, **{f"days_share_{name}": "repeat" for name in BACK},
    "age": "repeat", "first_age": "repeat", "days_back": "repeat", "day_rate": "repeat",
    "gap": "due", "due": "due", "due_days": "due",
    "same_week_time": "clock", "same_week_time_share": "clock", "same_day_kind": "clock", "same_day_kind_share": "clock",
    "same_hour": "clock", "same_hour_share": "clock",
    "rank_decay": "repeat", "rank_age": "repeat", "rank_days": "repeat",
}


@dataclass(frozen=True)
class Own:
    """Cells (user, item) of some histories, ascending by user and column, with their features."""

    histories: Histories
    request_us: np.ndarray      # [U]
    tables: ItemTables
    horizon_us: int             # the list serves for so long after the request

    @cached_property
    def known(self) -> np.ndarray:
        """[E] positions of events on known items."""
        return np.flatnonzero(self.event_column >= 0)

    @cached_property
    def event_column(self) -> np.ndarray:
        """Columns of all events; -1 for items the tables do not know."""
        return self.tables.columns(self.histories.item)

    @cached_property
    def _cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys [N] of the cells, ascending, and the cell [E] of each event."""
        width = max(self.tables.n_items, 1)
        key = self.histories.user[self.known] * width + self.event_column[self.known]
        return np.unique(key, return_inverse=True)

    @property
    def user(self) -> np.ndarray:
        """[N] whose cell it is."""
        return self._cells[0] // max(self.tables.n_items, 1)

    @property
    def column(self) -> np.ndarray:
        """[N] the item's column."""
        return self._cells[0] % max(self.tables.n_items, 1)

    def find(self, user: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Cells of pairs; -1 for items the user has not met."""
        keys, wanted = self._cells[0], user * max(self.tables.n_items, 1) + column
        if not len(keys):
            return np.full(len(wanted), -1)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, at, -1)

    def _sum(self, weights: np.ndarray) -> np.ndarray:
        """[N] weights [E] of the events added up by cell."""
        return np.bincount(self._cells[1], weights, minlength=len(self._cells[0]))

    def _of_user(self, per_cell: np.ndarray) -> np.ndarray:
        """[N] what a user's cells add up to, at each of his cells."""
        return np.bincount(self.user, per_cell, minlength=len(self.histories))[self.user]

    @cached_property
    def age_d(self) -> np.ndarray:
        """[E] days from event to request."""
        user = self.histories.user[self.known]
        return np.maximum(np.asarray(self.request_us)[user] - self.histories.ts[self.known], 0) / DAY

    @cached_property
    def _ages(self) -> tuple[np.ndarray, np.ndarray]:
        """[N] days since the last and since the first event of each cell."""
        last, first = np.full(len(self._cells[0]), np.inf), np.zeros(len(self._cells[0]))
        np.minimum.at(last, self.event_cell, self.age_d)
        np.maximum.at(first, self.event_cell, self.age_d)
        return last, first

    @property
    def event_cell(self) -> np.ndarray:
        """[E] the cell of each event on a known item."""
        return self._cells[1]

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """[N] float64 each, by NAMES; counts and ages as log1p."""
        cell, n = self._cells[1], len(self._cells[0])
        count = np.bincount(cell, minlength=n).astype(np.float64)
        out = {
            "met": np.ones(n), "count": np.log1p(count), "share": count / np.maximum(self._of_user(count), 1),
            "value": np.log1p(self._sum(np.nan_to_num(np.maximum(self.histories.value[self.known], 0)).astype(np.float64))),
        }
        out |= self._by_position() | self._by_sequence() | self._by_decay() | self._by_day(count) | self._by_clock()
        for name, by, sign in (("rank_decay", "decay_30d", -1), ("rank_age", "age", 1), ("rank_days", "days_mid", -1)):
            out[name] = np.log1p(rank_within(self.user, sign * out[by]))
        return out

    def _by_position(self) -> dict[str, np.ndarray]:
        """By the user's own events since: works for logs that are only an order."""
        ends = self.histories.offsets[1:][self.histories.user[self.known]]
        back = ends - 1 - self.known
        newest = np.full(len(self._cells[0]), np.iinfo(np.int64).max)
        np.minimum.at(newest, self._cells[1], back)
        return {
            "events_back": np.log1p(newest), "recent_3e": self._sum(np.exp2(-np.minimum(back / 3, 60))),
            "recent_10e": self._sum(np.exp2(-np.minimum(back / 10, 60))),
        }

    def _by_sequence(self) -> dict[str, np.ndarray]:
        """What followed the user's newest items when he met them before, the nearer the more."""
        ends = self.histories.offsets[1:][self.histories.user]
        place, weight = np.arange(len(ends)), np.zeros(len(ends))
        for back in range(1, STANDS + 1):
            newest = ends - back
            earlier = place[place < newest]     # of a shorter history none, or it would be another user's event
            here = earlier[self.histories.item[earlier] == self.histories.item[newest[earlier]]]
            for lag in range(1, FOLLOWED + 1):
                then = (here + lag)[here + lag < ends[here]]
                weight += np.bincount(then, minlength=len(ends)) / (lag * back)
        found = self._sum(weight[self.known])
        return {"after": np.log1p(found), "after_share": found / np.maximum(self._of_user(found), 1e-12)}

    def _by_decay(self) -> dict[str, np.ndarray]:
        """By time since."""
        last, first = self._ages
        out = {"age": np.log1p(last), "first_age": np.log1p(first)}
        for h in HALF_LIVES_D:
            out[f"decay_{h}d"] = self._sum(np.exp2(-np.minimum(self.age_d / h, 60)))
        for h in (7, 30, 90):
            out[f"share_{h}d"] = out[f"decay_{h}d"] / np.maximum(self._of_user(out[f"decay_{h}d"]), 1e-12)
        return out

    def _by_day(self, count: np.ndarray) -> dict[str, np.ndarray]:
        """By the user's active days, and the rhythm of the item in them."""
        n, cell, user = len(self._cells[0]), self._cells[1], self.histories.user[self.known]
        window = np.floor(self.age_d).astype(np.int64)
        back = ranks_of_values(user, window)            # 0 = the user's latest active day
        day = np.unique(np.stack([cell, back]), axis=1)     # a cell once per active day
        days = np.bincount(day[0], minlength=n).astype(np.float64)
        newest, oldest = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
        np.minimum.at(newest, cell, back)
        np.maximum.at(oldest, cell, back)
        active = np.zeros(len(self.histories), np.int64)
        np.maximum.at(active, user, back + 1)
        out = {
            "count_days": np.log1p(days), "days_back": np.log1p(newest), "day_rate": days / (oldest + 1),
        }
        for name, g in BACK.items():
            out[f"days_{name}"] = np.bincount(day[0], g ** day[1].astype(np.float64), minlength=n)
            out[f"days_share_{name}"] = out[f"days_{name}"] * (1 - g) / (1 - g ** active[self.user].astype(np.float64))
        last, first = self._ages
        often = days > 1
        gap = np.where(often, (first - last) / np.maximum(days - 1, 1), NEVER_D)
        gap_days = np.where(often, (oldest - newest) / np.maximum(days - 1, 1), 1.0)
        out["gap"] = np.log1p(gap)
        out["due"] = np.where(often, np.log1p(last / (gap + 0.1)), 0.0)
        out["due_days"] = np.where(often, np.log1p(newest / gap_days), 0.0)
        return out

    def _by_clock(self) -> dict[str, np.ndarray]:
        """Events at the coming hours of the week, on the same kind of day, and near the hour of the request."""
        user, ts = self.histories.user[self.known], self.histories.ts[self.known]
        request = np.asarray(self.request_us)[user]
        in_window = (ts - request) % WEEK < min(self.horizon_us, WEEK)
        middle = np.asarray(self.request_us) + self.horizon_us // 2
        same_kind = is_weekend(ts) == is_weekend(middle)[user]
        apart = (ts - request) % DAY
        hours = np.minimum(apart, DAY - apart) / HOUR
        fade_28, fade_60 = (np.exp2(-np.minimum(self.age_d / h, 60)) for h in (28, 60))
        near = np.exp(-(hours**2) / 8)      # two hours
        out = {}
        weights = {"same_week_time": fade_28 * in_window, "same_day_kind": fade_60 * same_kind, "same_hour": fade_60 * near}
        for name, weight in weights.items():
            out[name] = self._sum(weight)
            out[f"{name}_share"] = out[name] / (self._of_user(out[name]) + 0.1)
        return out

    def best(self, by_decay: int, by_days: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Users and columns of the cells that stand among the user's first by decayed count, then by active days."""
        for name, most in (("rank_decay", by_decay), ("rank_days", by_days)):
            keep = self.features[name] < np.log1p(most)
            yield self.user[keep], self.column[keep]


def is_weekend(ts_us: np.ndarray) -> np.ndarray:
    """Saturday or Sunday, UTC; 1970-01-01 was a Thursday."""
    return (ts_us // DAY + 3) % 7 >= 5


def rank_within(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[N] place of each value inside its group, 0 = smallest; equal values in their order.  `group` ascends."""
    order = np.lexsort((value, group))
    out = np.empty(len(group), np.int64)
    out[order] = np.arange(len(group)) - np.searchsorted(group, group[order])
    return out


def ranks_of_values(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[N] how many smaller different values its group has.  `group` ascends."""
    order = np.lexsort((value, group))
    g, v = group[order], value[order]
    starts = np.diff(g, prepend=-1) != 0
    step = np.cumsum(starts | (np.diff(v, prepend=v[:1] - 1 if len(v) else 0) != 0))
    out = np.empty(len(group), np.int64)
    out[order] = step - np.maximum.accumulate(np.where(starts, step, 0))
    return out
