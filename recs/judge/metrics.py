"""How good ranked lists are, by what followed.

Shapes: L lists, K ranks.  `hits` [L, K] bool: the item at this rank came true; `wanted` [L]: how many items came true in all
(in the list or not).  A list for which nothing came true (wanted 0) has no metric: leave it out before the mean.

    >>> hits = np.array([[True, False, True], [False, False, False], [False, True, False]])
    >>> wanted = np.array([2, 1, 5])
    >>> ndcg_of_hits(hits, wanted).round(4)         # 1.5 / 1.6309; nothing; 0.6309 of the 2.1309 that three hits would give
    array([0.9197, 0.    , 0.2961])
    >>> recall_of_hits(hits, wanted)
    array([1. , 0. , 0.2])
    >>> hit_rate_of_hits(hits)
    array([1., 0., 1.])
    >>> mrr_of_hits(hits)
    array([1. , 0. , 0.5])
    >>> precision_of_hits(hits).round(4)
    array([0.6667, 0.    , 0.3333])
    >>> f1_of_hits(hits, wanted)                    # of the precisions and recalls above
    array([0.8 , 0.  , 0.25])
"""
from __future__ import annotations

import numpy as np


def discounts(k: int) -> np.ndarray:
    """[k] 1 / log2(rank + 1)."""
    return 1.0 / np.log2(np.arange(2, k + 2))


def ndcg_of_hits(hits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """[L] discounted gain of the hits over that of a list with min(wanted, K) hits first (Järvelin and Kekäläinen, TOIS 2002)."""
    k = hits.shape[1]
    ideal = np.concatenate([[0.0], np.cumsum(discounts(k))])[np.minimum(wanted, k)]
    return (hits * discounts(k)).sum(axis=1) / np.maximum(ideal, 1e-12)


def recall_of_hits(hits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """[L] share of what came true that the list holds."""
    return hits.sum(axis=1) / np.maximum(wanted, 1)


def hit_rate_of_hits(hits: np.ndarray) -> np.ndarray:
    """[L] 1 where the list holds any hit."""
    return hits.any(axis=1).astype(float)


def mrr_of_hits(hits: np.ndarray) -> np.ndarray:
    """[L] 1 / rank of the first hit, 0 without one."""
    return np.where(hits.any(axis=1), 1.0 / (np.argmax(hits, axis=1) + 1), 0.0)


def metrics_of_hits(hits: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """[L] each: ndcg@K, recall@K, hr@K, mrr@K."""
    k = hits.shape[1]
    return {
        f"ndcg@{k}": ndcg_of_hits(hits, wanted), f"recall@{k}": recall_of_hits(hits, wanted),
        f"hr@{k}": hit_rate_of_hits(hits), f"mrr@{k}": mrr_of_hits(hits),
    }


def precision_of_hits(hits: np.ndarray) -> np.ndarray:
    """[L] share of the K places that hold a hit; a short list's empty places hold none."""
    return hits.mean(axis=1)


def f1_of_hits(hits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """[L] harmonic mean of precision and recall, 0 without a hit: 2 hits / (K + wanted)."""
    return 2.0 * hits.sum(axis=1) / (hits.shape[1] + wanted)


def accuracy_of_hits(hits: np.ndarray) -> np.ndarray:
    """[L] 1 where the first item is a hit (of next-event targets: the share told right at once)."""
    return hits[:, 0].astype(float)


def all_metrics_of_hits(hits: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """[L] each: `metrics_of_hits`, and precision@K, f1@K, accuracy@1."""
    k = hits.shape[1]
    return metrics_of_hits(hits, wanted) | {
        f"precision@{k}": precision_of_hits(hits), f"f1@{k}": f1_of_hits(hits, wanted), "accuracy@1": accuracy_of_hits(hits),
    }
