"""Small staged data sets: numbers for a regression, walks for a sequence model."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recs.nn.settings import TrainConfig
from recs.nn.staged import Staged, write_staged

QUICK = {"reader": "arrow", "tensorboard": False, "precision": "fp32", "threads": 1}     # petastorm and TensorBoard take seconds to import


def every_type(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """A column of each type that may be staged."""
    rng = np.random.default_rng(seed)
    return {
        "id": np.arange(rows, dtype=np.int64) + 2**53,      # a float64 on the way would lose the last bit
        "n": rng.integers(0, 100, rows).astype(np.int32),
        "weight": rng.random(rows).astype(np.float32),
        "bins": rng.integers(0, 256, (rows, 3, 4)).astype(np.uint8),
        "kinds": rng.integers(-5, 5, (rows, 6)).astype(np.int16),
        "items": rng.integers(0, 1000, (rows, 6)).astype(np.int32),
        "ts": rng.integers(0, 2**60, (rows, 6)),
        "evidence": rng.standard_normal((rows, 5, 2)).astype(np.float16),
        "wide": rng.standard_normal((rows, 2)).astype(np.float32),
    }


def line(folder: Path, rows: int = 600, rows_per_file: int = 90) -> Staged:
    """y = x · (0 … 3) plus noise."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((rows, 4)).astype(np.float16)
    y = x.astype(np.float32) @ np.arange(4, dtype=np.float32) + rng.normal(0, 0.1, rows).astype(np.float32)
    return write_staged(folder, {"x": x, "y": y.astype(np.float32)}, rows_per_file)


class Line(nn.Module):
    """Two layers with dropout: what a seed and a position decide shows in the weights."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.LayerNorm(8), nn.Linear(8, 1))

    def _errors(self, batch: dict[str, Tensor]) -> Tensor:
        return (self.layers(batch["x"].float())[:, 0] - batch["y"]).square()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return self._errors(batch).mean()

    def evaluate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        errors = self._errors(batch)
        return {"loss": errors.sum(), "n": torch.tensor(len(errors))}


def settings(**other: object) -> TrainConfig:
    """Of a run that takes a second."""
    return TrainConfig(**{"metric": "loss", "epochs": 3, "batch_size": 32, "lr": 0.01, **QUICK, **other})


def walks(rows: int, seed: int, n_items: int = 200, length: int = 16) -> dict[str, np.ndarray]:
    """Histories in which six of ten items are the fixed successor of the one before, and others are drawn by popularity."""
    successor = np.random.default_rng(99).permutation(n_items)
    popularity = 1 / np.arange(1, n_items + 1)
    rng = np.random.default_rng(seed)
    other = rng.choice(n_items, (rows, length + 1), p=popularity / popularity.sum())
    x = other.copy()
    for t in range(1, length + 1):
        x[:, t] = np.where(rng.random(rows) < 0.6, successor[x[:, t - 1]], other[:, t])
    h_len = rng.integers(2, length + 1, rows)
    h_item = np.where(np.arange(length) < length - h_len[:, None], 0, x[:, :-1] + 1)
    follow = np.zeros(h_item.shape, np.uint8)
    follow[:, :-1] = h_item[:, :-1] > 0
    return {
        "h_item": h_item.astype(np.int32), "follow": follow, "n_truth": np.ones(rows, np.int32),
        "h_len": h_len.astype(np.int32), "target": (x[:, -1:] + 1).astype(np.int32),
        "h_ts": np.cumsum(rng.integers(1, 10**9, (rows, length)), axis=1),
        "request_us": np.full(rows, 2 * 10**10),
    }
