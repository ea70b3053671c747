"""Errors of graded feedback: mean squared, its root, and mean absolute, over all and by quarter of the time.

Shape suffixes: N ratings.
"""
from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

SLICES = 4


def sums_of_errors(error_N: Tensor, slice_N: Tensor) -> dict[str, Tensor]:
    """What `evaluate` adds up: squares and absolute values, of all and by slice, and how many there are."""
    square, size = error_N.double().square(), error_N.double().abs()
    out = {"loss": square.sum(), "mae": size.sum(), "n": torch.tensor(float(len(error_N)), device=error_N.device)}
    for n in range(SLICES):
        mine = slice_N == n
        out |= {f"mse_{n + 1}": square[mine].sum(), f"mae_{n + 1}": size[mine].sum(), f"share_{n + 1}": mine.sum()}
    return out


def errors_of(means: Mapping[str, float]) -> dict[str, float]:
    """mse, rmse, mae, and the same by slice (mse_1 … mae_4), from the means of the above; nothing where there are none of these."""
    if "share_1" not in means:
        return dict(means)
    out = {"mse": means["loss"], "rmse": math.sqrt(means["loss"]), "mae": means["mae"]}
    for n in range(1, SLICES + 1):
        if share := means[f"share_{n}"]:
            mse = means[f"mse_{n}"] / share
            out |= {f"mse_{n}": mse, f"rmse_{n}": math.sqrt(mse), f"mae_{n}": means[f"mae_{n}"] / share}
    return out
