"""A blend: a weighted sum of what popularity, novelty, the user's own items and his neighbours say, each as a logarithm.

    score(u, i) = sum over components c of weight(c) * f_c(u, i)        weights fitted on earlier nights (recs/models/blend_fit.py)

    popular@S       log(1 + 1000 p) / log 1001      p: statistic S of the item as a share of its maximum
    new             log2(1 + 1 / (1 + age))         age of the item in days, from its first event to the cut
    own@P           (20 + log2 w) / 20, at least 0  w: the user's events on the item, weighted by span P
    K@P             log(1 + 100 y) / log 101        y: his profile by span P times the table K, as a share of its maximum over items;
                                                    K a kind of sparse neighbours, or ease:<lambda>

All f are 0 or more and about 1 at most.  Logarithms, because the measured sums were far better than those of plain shares
(a sum of logarithms multiplies evidence: an item must be known to the user *and* in fashion); positive weights, because they
carry over to the next night.  A component whose table the cut had to leave out (EASE of too large a catalogue) says nothing.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables
from recs.evidence.profiles import dense_block, event_weights, own_event, profile, shares, speaking_event
from recs.evidence.sparse import cells_at

from .base import REASONS, Model, Reasons, Scorer, Setting
from .ease import times_dense
from .fitting import Fit, Replay
from .item_to_item import links_of
from .popularity import popularity_of


@dataclass(frozen=True)
class Component:
    """One voice: `name` is `source` or `source@argument`."""

    name: str

    @property
    def source(self) -> str:
        """What speaks: popular, new, own, or a kind of item table."""
        return self.name.partition("@")[0]

    @property
    def argument(self) -> str:
        """Its statistic or span; empty when it has none."""
        return self.name.partition("@")[2]

    @property
    def kind(self) -> str | None:
        """The item table it reads."""
        return None if self.source in ("popular", "new", "own") else self.source

    @property
    def reason(self) -> str:
        """Reason code of items that it carried."""
        by_source = {"popular": "popular", "new": "popular", "own": "repeat", "adopters": "similar_users"}
        return by_source.get(self.source.partition(":")[0], "neighbour")

    def of_items(self, tables: ItemTables) -> np.ndarray:
        """[I] float32: f where it is the same for everybody (popular, new)."""
        if self.source == "new":
            age_d = np.asarray(tables.stat("first_h"), np.float64) / 24
            return np.log2(1 + 1 / (1 + age_d)).astype(np.float32)
        return (np.log1p(1000 * popularity_of(tables, self.argument).astype(np.float64)) / np.log(1001)).astype(np.float32)

    def of_users(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> sp.csr_matrix | np.ndarray:
        """[U, I] float32, sparse, or dense for EASE: f where it differs from user to user."""
        mine = profile(histories, request_us, self.argument, tables, binary=self.argument == "all" and self.source != "own")
        if self.source == "own":
            mine.data = np.maximum((20 + np.log2(np.maximum(mine.data, 2.0**-20))) / 20, 0).astype(np.float32)
            return mine
        if self.source.startswith("ease:"):
            votes = np.maximum(times_dense(shares(mine), tables.dense(self.source), 0, tables.n_items), 0)
            return _logged(votes, votes.max(axis=1, initial=0)[:, None])
        found = (shares(mine) @ tables.neighbours(self.source)).tocsr()
        rows = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
        most = np.zeros(found.shape[0], np.float32)
        np.maximum.at(most, rows, found.data)
        found.data = _logged(found.data, most[rows])
        return found


def _logged(votes: np.ndarray, most: np.ndarray) -> np.ndarray:
    return (np.log1p(votes / np.maximum(most, 1e-30) * 100) / np.log(101)).astype(np.float32)


@dataclass(frozen=True)
class Voices:
    """What components say about a batch of users: `items` [I] each, `users` [U, I] each."""

    items: dict[str, np.ndarray]
    users: dict[str, sp.csr_matrix | np.ndarray]

    @property
    def names(self) -> list[str]:
        """Every component that speaks."""
        return [*self.items, *self.users]

    def everywhere(self, name: str, n_users: int) -> np.ndarray:
        """[U, I] one component."""
        if name in self.items:
            return np.broadcast_to(self.items[name], (n_users, len(self.items[name])))
        values = self.users[name]
        return values.toarray() if sp.issparse(values) else values

    def at(self, name: str, columns: np.ndarray) -> np.ndarray:
        """[U, K] one component at the columns [U, K]."""
        if name in self.items:
            return self.items[name][columns]
        values, users = self.users[name], np.arange(len(columns))[:, None]
        if not sp.issparse(values):
            return values[users, columns]
        return cells_at(values, users, columns)


def voices(names: list[str], histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Voices:
    """Every component's f for these users; components without a table are left out."""
    missing = tables.manifest.get("left_out", {})
    here = [c for c in map(Component, names) if c.kind not in missing]
    alike = [c for c in here if c.source in ("popular", "new")]
    return Voices(
        {c.name: c.of_items(tables) for c in alike},
        {c.name: c.of_users(histories, request_us, tables) for c in here if c not in alike},
    )


class Blend(Model):
    """Weights over components."""

    name = "blend"

    @classmethod
    def grid(cls, setting: Setting) -> list[dict[str, Any]]:
        from .blend_fit import starts

        return [{"weights": weights} for weights in starts(setting)]

    @classmethod
    def fit(cls, setting: Setting, replay: Replay) -> Fit:
        """Weights by search over mixtures."""
        from .blend_fit import fit_weights

        return fit_weights(setting, replay)

    @classmethod
    def needs(cls, params: dict[str, Any]) -> frozenset[str]:
        return frozenset(c.kind for c in map(Component, params["weights"]) if c.kind)

    def scorer(self, histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
        # summed in the order of the names: a file may list them in another
        weights = {name: np.float32(w) for name, w in sorted(self.params["weights"].items())}
        said = voices(list(weights), histories, request_us, tables)
        everybody = np.zeros(tables.n_items, np.float32)
        for name, values in said.items.items():
            everybody += weights[name] * values
        sparse, dense = sp.csr_matrix((len(histories), tables.n_items), dtype=np.float32), []
        for name, values in said.users.items():
            if sp.issparse(values):
                sparse = sparse + weights[name] * values
            else:
                dense.append(weights[name] * values)

        def score(lo: int, hi: int) -> np.ndarray:
            total = everybody[lo:hi] + dense_block(sparse, lo, hi)
            for values in dense:
                total += values[:, lo:hi]
            return total

        return score

    def explain(self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray) -> Reasons:
        """The reason that adds most to the score; the event that speaks most in its loudest component."""
        weights = self.params["weights"]
        said = voices(list(weights), histories, request_us, tables)
        adds = {name: weights[name] * said.at(name, np.maximum(columns, 0)) for name in said.names}
        total = np.zeros((len(REASONS), *columns.shape), np.float32)
        for name, values in adds.items():
            total[REASONS.index(Component(name).reason)] += values
        code = np.where(columns >= 0, np.argmax(total, axis=0), REASONS.index("popular")).astype(np.int8)
        return Reasons(code, self._events(histories, request_us, tables, columns, code, adds))

    def _events(
        self, histories: Histories, request_us: np.ndarray, tables: ItemTables, columns: np.ndarray, code: np.ndarray,
        adds: dict[str, np.ndarray],
    ) -> np.ndarray:
        """[U, K] the event behind each reason."""
        event = np.full(columns.shape, -1, np.int64)
        for reason in set(code.ravel()) - {REASONS.index("popular")}:
            mine = [name for name in adds if REASONS.index(Component(name).reason) == reason]
            loudest = np.argmax(np.stack([adds[name] for name in mine]), axis=0)
            for number, component in enumerate(map(Component, mine)):
                asked = np.where((code == reason) & (loudest == number), columns, -1)
                if (asked >= 0).any():
                    weights = event_weights(histories, request_us, component.argument)
                    found = (
                        own_event(histories, weights, tables, asked) if component.source == "own"
                        else speaking_event(histories, weights, tables, asked, links_of(tables, component.source))
                    )
                    event = np.where(found >= 0, found, event)
        return event
