"""From scores to a set: the score from which on an item is said to come, by the lists of the held-out nights as they would be made.

    served score   the network's, and what joins it (sequence_joined.py); by lift the network alone is no probability
    threshold      of 161 scores, four deviations to either side of the mean of those listed, the one with the best F1
    F1             over all pairs of a user and an item that he might have been listed (micro)

Where nothing joins the network's own probabilities are asked (recs/nn/thresholds.py).  Shapes: U users, I items, G thresholds.
"""
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from recs.nn.thresholds import Threshold, best_of

from .fitting import Question, Replay
from .sequence_joined import BLOCK

GRID = np.linspace(-4, 4, 161)      # in deviations of the scores listed


def threshold(name: str, params: dict[str, Any], weights: dict[str, np.ndarray], held_out: Replay) -> Threshold:
    """The best threshold on what a model of these parameters and weights serves."""
    listed, total, squares = held_out.mean(partial(_listed, name, params, weights))
    middle = total / listed
    grid = middle + np.sqrt(max(squares / listed - middle**2, 0.0)) * GRID
    said, true, wanted = np.split(held_out.mean(partial(_at_least, name, params, weights, grid)), [len(grid), 2 * len(grid)])
    return best_of(grid, said, true, float(wanted[0]))


def _listed(name: str, params: dict[str, Any], weights: dict[str, np.ndarray], question: Question) -> np.ndarray:
    """[3]: how many items are listed, the sum of their scores and of the squares."""
    from recs.models import make

    model = make(name, params, weights)
    scores = model.retrieve(question.histories, question.request_us, question.tables, question.k, question.forbidden)[1]
    some = scores[np.isfinite(scores)].astype(np.float64)
    return np.array([len(some), some.sum(), (some**2).sum()])


def _at_least(
    name: str, params: dict[str, Any], weights: dict[str, np.ndarray], grid: np.ndarray, question: Question,
) -> np.ndarray:
    """[2 G + 1]: pairs with at least each score, those among them that came true, and all that came true."""
    from recs.models import make

    score, n = make(name, params, weights).scorer(question.histories, question.request_us, question.tables), question.tables.n_items
    said, true = np.zeros(len(grid) + 1), np.zeros(len(grid) + 1)
    user, column = np.divmod(question.truth, n)
    for lo in range(0, n, BLOCK):
        hi = min(lo + BLOCK, n)
        place = np.searchsorted(grid, np.where(question.forbidden(lo, hi), -np.inf, score(lo, hi)), side="right")
        here = (column >= lo) & (column < hi)
        said += np.bincount(place.ravel(), minlength=len(said))
        true += np.bincount(place[user[here], column[here] - lo], minlength=len(true))
    return np.concatenate([*(counts[::-1].cumsum()[::-1][1:] for counts in (said, true)), [question.wanted.sum()]])
