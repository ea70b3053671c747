"""What lists are like, whatever came true: how well known, how alike, how much of the shelf they show.

    novelty         mean over the listed items of -log2((users who know the item + 1) / (users + 1)): surprise in bits
    diversity       of one list: share of its pairs of items from different top-level categories (pairs without a category do not count),
                    and mean over pairs of 1 - co-occurrence cosine
    exposure        share of the places, a place at rank r weighing 1 / log2(r + 1), that goes to the head, the middle and the tail of
                    the catalogue: the best known items with half of all meetings, those up to 90 %, and the rest

Shapes: L lists, I items of the shelf, P pairs of places.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from recs.evidence.item_tables import ItemTables

from .metrics import discounts

TIERS = ("head", "middle", "tail")
TIER_ENDS = (0.5, 0.9)      # share of all meetings


@dataclass(frozen=True)
class Shelf:
    """The catalogue as of a cut: ids [I] str ascending, categories [I] (-1 = none), neighbours [I, I] where there are any."""

    ids: np.ndarray
    known_by: np.ndarray        # [I] users who know the item
    n_users: int
    category: np.ndarray
    neighbours: sp.csr_matrix | None = None

    @classmethod
    def of(cls, tables: ItemTables) -> Shelf:
        """From the item tables of the cut; any kind of co-occurrence serves."""
        kind = next((k for k in sorted(tables.kinds) if k.split(":")[0] == "cooc"), None)
        return cls(
            tables.item_ids, np.asarray(tables.stat("users_met"), np.float64), tables.manifest["n_users"],
            np.asarray(tables.array("category")), None if kind is None else tables.neighbours(kind),
        )

    def places(self, ids: np.ndarray) -> np.ndarray:
        """Place of each id [N] on the shelf; -1 for those that are not there."""
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1) if len(self.ids) else np.zeros(len(ids), np.int64)
        return np.where(self.ids[at] == ids, at, -1) if len(self.ids) else np.full(len(ids), -1)

    @cached_property
    def tier(self) -> np.ndarray:
        """[I] place in TIERS; the item that crosses a limit still belongs to the better known side."""
        order = np.argsort(-self.known_by, kind="stable")
        before = np.cumsum(self.known_by[order]) - self.known_by[order]
        out = np.empty(len(order), np.int64)
        out[order] = np.searchsorted(np.array(TIER_ENDS) * max(self.known_by.sum(), 1e-12), before, side="right")
        return out


def described(lists: list[np.ndarray], shelf: Shelf) -> dict[str, np.ndarray]:
    """Per list, as sums and what to divide them by: novelty and items; categories and cooccurrence with 0 or 1 for known; exposure [L, 3].

    `lists`: per list its item ids, best first.
    """
    lengths = np.array([len(items) for items in lists], np.int64)
    width = int(lengths.max(initial=1))
    columns = np.full((len(lists), width), -1, np.int64)
    there = np.arange(width) < lengths[:, None]
    columns[there] = shelf.places(np.concatenate([*lists, np.empty(0, object)]))
    known = columns >= 0
    users = np.where(known, shelf.known_by[columns] if len(shelf.ids) else 0.0, 0.0)
    surprise = np.where(there, -np.log2((users + 1) / (shelf.n_users + 1)), 0.0)
    tier = np.where(known, shelf.tier[columns] if len(shelf.ids) else 0, len(TIERS) - 1)    # an item nobody met is tail
    exposure = np.stack([(discounts(width) * (there & (tier == t))).sum(axis=1) for t in range(len(TIERS))], axis=1)
    categories, has_categories = _mean_over_pairs(*_other_category(columns, shelf))
    unlike, has_pairs = _mean_over_pairs(*_unlike(columns, shelf))
    return {
        "novelty": surprise.sum(axis=1), "items": lengths.astype(np.float64), "categories": categories, "has_categories": has_categories,
        "cooccurrence": unlike, "has_cooccurrence": has_pairs, "exposure": exposure,
    }


def _pairs(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[L, P] each: the two items of every pair of places."""
    a, b = np.triu_indices(columns.shape[1], 1)
    return columns[:, a], columns[:, b]


def _other_category(columns: np.ndarray, shelf: Shelf) -> tuple[np.ndarray, np.ndarray]:
    """[L, P]: is the pair from different categories; does it count?"""
    category = np.where(columns >= 0, shelf.category[columns] if len(shelf.ids) else -1, -1)
    a, b = _pairs(category)
    return a != b, (a >= 0) & (b >= 0)


def _unlike(columns: np.ndarray, shelf: Shelf) -> tuple[np.ndarray, np.ndarray]:
    """[L, P]: 1 - cosine of the pair; does it count?"""
    a, b = _pairs(columns)
    counts = (a >= 0) & (b >= 0)
    if shelf.neighbours is None:
        return np.zeros(a.shape), np.zeros(a.shape, bool)
    likeness = np.zeros(a.shape)
    if counts.any():
        # a row keeps its best neighbours only: the other side may know the pair
        sides = [np.asarray(shelf.neighbours[x[counts], y[counts]]).ravel() for x, y in ((a, b), (b, a))]
        likeness[counts] = np.maximum(*sides)
    return 1.0 - likeness, counts


def _mean_over_pairs(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[L] mean of the pairs that count, 0 without any; [L] 1 where there is one."""
    n = counts.sum(axis=1)
    return np.where(counts, values, 0.0).sum(axis=1) / np.maximum(n, 1), (n > 0).astype(np.float64)
