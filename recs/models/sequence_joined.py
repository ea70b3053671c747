"""What joins a network's scores where lists are made: what is popular tonight, and what the user himself has met.

    score(user, item) + w · log(statistic(item) + LEAST) + v · log(1 + own(user, item) / LEAST)

    popular     one of the item tables' decayed counts as of the cut: where the catalogue is fresh, weights of the last fit know little of
                it, and an item that came after training rises with its first readers
    own         the user's events on the item, faded by a span (recs/evidence/profiles.py): where lists may repeat, a habit is as strong
                for an item that few others have as for one that training met often

Statistic, span and weights are those with which the lists of the held-out nights are best, as they would have been made, one kind after the
other; none, where the network alone is.  In logits it is a product of experts; a large weight leaves the network to part what is equal.

Shapes: U users, W items of a block, I items.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from recs.evidence.histories import Histories
from recs.evidence.item_tables import HALF_LIVES, ItemTables
from recs.evidence.profiles import dense_block, profile
from recs.judge.metrics import ndcg_of_hits

from .base import Scorer, TopK
from .fitting import Question, Replay

POPULAR, OWN = "popular", "own"
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
ALONE: dict[str, Any] = {}
WAYS = {
    POPULAR: (ALONE, *({"stat": f"decay_{h}", "weight": w} for h in HALF_LIVES for w in WEIGHTS)),
    OWN: (ALONE, *({"span": s, "weight": w} for s in ("1d", "7d", "30d", "14a", "all") for w in WEIGHTS)),
}
LEAST = 0.05        # day-users of an item that nobody meets any more; events of a user on an item that count next to nothing
BLOCK = 8_192


def joined(choice: dict[str, dict[str, Any]], histories: Histories, request_us: np.ndarray, tables: ItemTables) -> Scorer:
    """[U, W] or [W] of any block of columns: what is added to a network's scores; `choice` by kind, 0 for those without one."""
    return _joined(choice, tables, partial(_log_own, histories, request_us, tables))


def _joined(choice: dict[str, dict[str, Any]], tables: ItemTables, log_own: Callable[[str], sp.csr_matrix]) -> Scorer:
    popular, own = choice.get(POPULAR, ALONE), choice.get(OWN, ALONE)
    everywhere = log_popular(tables, popular) if popular else np.zeros(tables.n_items, np.float32)
    if not own:
        return lambda lo, hi: everywhere[lo:hi]
    met, weight = log_own(own["span"]), np.float32(own["weight"])
    return lambda lo, hi: everywhere[lo:hi] + weight * dense_block(met, lo, hi)


def _log_own(histories: Histories, request_us: np.ndarray, tables: ItemTables, span: str) -> sp.csr_matrix:
    """[U, I] float32, 0 for what the user has not met."""
    met = profile(histories, request_us, span, tables)
    met.data = np.log1p(met.data / LEAST).astype(np.float32)
    return met


def log_popular(tables: ItemTables, choice: dict[str, Any]) -> np.ndarray:
    """[I] float32 by column of the tables.

    An item that nobody has met yet is as popular as the mean of the others: nothing is known of it.
    """
    said, met = np.log(np.asarray(tables.stat(choice["stat"]), np.float64) + LEAST), np.asarray(tables.stat("users_all")) > 0
    return (choice["weight"] * np.where(met, said, said[met].mean() if met.any() else 0.0)).astype(np.float32)


def asked(params: dict[str, Any]) -> tuple[str, ...]:
    """Kinds that may join, by a model's parameters, in the order in which they are chosen: the first once more at the end."""
    kinds = [] if params.get("graded") else [kind for kind in (POPULAR, OWN) if params[kind]]
    return (*kinds, *kinds[:-1])


def chosen(name: str, params: dict[str, Any], weights: dict[str, np.ndarray], held_out: Replay) -> tuple[dict[str, dict[str, Any]], float]:
    """By kind the way of WAYS with which a model's lists of these nights are best (the first of equals), and their NDCG."""
    choice: dict[str, dict[str, Any]] = {}
    best = 0.0
    for kind in asked(params):
        found = held_out.mean(partial(_ndcg_sums, name, params | {"chosen": {}}, weights, kind, choice))
        choice[kind], best = WAYS[kind][int(found.argmax())], float(found.max())
    return choice, round(best, 6)


def _ndcg_sums(
    name: str, params: dict[str, Any], weights: dict[str, np.ndarray], kind: str, choice: dict[str, dict[str, Any]], question: Question,
) -> np.ndarray:
    """[ways of a kind], the other kinds by `choice`; the network is asked once."""
    from recs.models import make

    tables, asked_of = question.tables, (question.histories, question.request_us, question.tables)
    lists = [TopK(len(question.histories), question.k) for _ in WAYS[kind]]
    log_own = cache(partial(_log_own, *asked_of))       # of a span once, whatever the weight
    score, added = make(name, params, weights).scorer(*asked_of), [_joined(choice | {kind: way}, tables, log_own) for way in WAYS[kind]]
    for lo in range(0, tables.n_items, BLOCK):
        hi = min(lo + BLOCK, tables.n_items)
        said = np.where(question.forbidden(lo, hi), -np.inf, score(lo, hi))
        for best, more in zip(lists, added, strict=True):
            best.add(lo, said + more(lo, hi))
    return np.array([ndcg_of_hits(question.hits(best.columns), question.wanted).sum() for best in lists])
