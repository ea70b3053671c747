"""What is popular tonight beside what a network says: where the catalogue is fresh, weights of the last fit know little of it.

    score(user, item) + weight · log(statistic(item) + LEAST)

The statistic is one of the item tables' decayed counts as of the cut, so that an item that came after training rises with its first
readers.  Weight and half-life are those with which the lists of the held-out nights are best, as they would have been made; none, where
the network alone is.  In logits it is a product of experts; a large weight leaves the network to part what is equally popular.

Shapes: U users, W items of a block, I items.
"""
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from recs.evidence.item_tables import ItemTables
from recs.judge.metrics import ndcg_of_hits

from .base import TopK
from .fitting import Question, Replay

STATS = ("decay_12h", "decay_1d", "decay_3d", "decay_10d", "decay_30d")
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
ALONE: dict[str, Any] = {}
WAYS = (ALONE, *({"stat": stat, "weight": weight} for stat in STATS for weight in WEIGHTS))
LEAST = 0.05        # day-users: of an item that nobody meets any more
BLOCK = 8_192


def log_popular(tables: ItemTables, choice: dict[str, Any]) -> np.ndarray:
    """[I] float32 by column of the tables: what is added to every list's scores; 0 for ALONE.

    An item that nobody has met yet is as popular as the mean of the others: nothing is known of it.
    """
    if not choice:
        return np.zeros(tables.n_items, np.float32)
    said, met = np.log(np.asarray(tables.stat(choice["stat"]), np.float64) + LEAST), np.asarray(tables.stat("users_all")) > 0
    return (choice["weight"] * np.where(met, said, said[met].mean() if met.any() else 0.0)).astype(np.float32)


def chosen(name: str, params: dict[str, Any], weights: dict[str, np.ndarray], held_out: Replay) -> tuple[dict[str, Any], float]:
    """The way of WAYS with which a model's lists of these nights are best (the first of equals), and their NDCG."""
    found = held_out.mean(partial(_ndcg_sums, name, params | {"chosen": {"popular": ALONE}}, weights))
    best = int(found.argmax())
    return WAYS[best], round(float(found[best]), 6)


def _ndcg_sums(name: str, params: dict[str, Any], weights: dict[str, np.ndarray], question: Question) -> np.ndarray:
    """[len(WAYS)]; the network is asked once."""
    from recs.models import make

    model = make(name, params, weights)
    tables, lists = question.tables, [TopK(len(question.histories), question.k) for _ in WAYS]
    score, added = model.scorer(question.histories, question.request_us, tables), [log_popular(tables, way) for way in WAYS]
    for lo in range(0, tables.n_items, BLOCK):
        hi = min(lo + BLOCK, tables.n_items)
        said = np.where(question.forbidden(lo, hi), -np.inf, score(lo, hi))
        for best, more in zip(lists, added, strict=True):
            best.add(lo, said + more[lo:hi])
    return np.array([ndcg_of_hits(question.hits(best.columns), question.wanted).sum() for best in lists])
