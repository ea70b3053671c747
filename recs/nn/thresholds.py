"""From probabilities to a set: the threshold at which F1 on held-out lists is best (micro: over all pairs of list and item)."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recs.nn.next_item import NextItem
from recs.nn.reader import Reader

GRID = torch.logspace(-5, 0, 101, dtype=torch.float64).float()


@dataclass(frozen=True)
class Threshold:
    """An item is said to come when its probability (or score) is at least `at`; precision, recall and F1 where it was fitted."""

    at: float
    precision: float
    recall: float
    f1: float


def fitted(net: NextItem, asked: Reader) -> Threshold:
    """The best of 101 thresholds from 1e-5 to 1; what came true but has no number counts as missed."""
    said, true, wanted = torch.zeros(len(GRID)), torch.zeros(len(GRID)), 0
    with torch.no_grad(), asked.epoch(0) as batches:
        for arrays in batches:
            batch = {name: torch.from_numpy(values) for name, values in arrays.items()}
            p, target = torch.sigmoid(net.score(batch)), batch["target"].long()
            said += _at_least(p)
            true += _at_least(p.gather(1, (target - 1).clamp(min=0))[target > 0])
            wanted += int(batch["n_truth"].sum())
    return best_of(GRID.numpy(), said.numpy(), true.numpy(), wanted)


def best_of(grid: np.ndarray, said: np.ndarray, true: np.ndarray, wanted: float) -> Threshold:
    """The threshold of `grid` [G] with the best F1; `said`, `true` [G]: pairs that reach each, those that came true, of `wanted`."""
    precision, recall = true / np.maximum(said, 1e-9), true / max(wanted, 1e-9)
    f1 = 2 * true / np.maximum(said + wanted, 1e-9)
    best = int(np.argmax(f1))
    return Threshold(*(round(float(x[best]), 6) for x in (grid, precision, recall, f1)))


def _at_least(p: Tensor) -> Tensor:
    """How many of p are at least each threshold."""
    place = torch.bucketize(p.flatten(), GRID, right=True)      # thresholds that are at most p
    counts = torch.bincount(place, minlength=len(GRID) + 1).float()
    return counts.flip(0).cumsum(0).flip(0)[1:]
