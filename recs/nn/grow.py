"""Start from earlier weights although the catalogue has grown: tables are carried over row by row.

    before  [pad, A, B, C]          rows of the new table: [0, 1, 3, -1]
    after   [pad, A, C, new]        B has left, the last item is new: its row stays as the network initialised it
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


def warm_start(model: nn.Module, weights: Mapping[str, Tensor], rows: Mapping[str, np.ndarray] | None = None) -> int:
    """Load earlier `weights` into `model` in place; returns how many rows are new.

    `rows`: name of a tensor -> for each of its rows in `model` the row in `weights`, or -1 for a new one.  Tensors not named there
    must have the same shape, and names must be the same: ValueError otherwise.
    """
    rows = rows or {}
    own = model.state_dict()
    if unknown := sorted((set(own) ^ set(weights)) | (set(rows) - set(own))):
        raise ValueError(f"weights of another network: {', '.join(unknown)}")
    new, merged = 0, {}
    for name, mine in own.items():
        old = weights[name].to(mine.device, mine.dtype)
        if name in rows:
            source = torch.as_tensor(np.asarray(rows[name]), device=mine.device).long()
            if source.shape != mine.shape[:1] or mine.shape[1:] != old.shape[1:] or int(source.max()) >= len(old):
                raise ValueError(f"{name}: {tuple(old.shape)} into {tuple(mine.shape)} by {len(source)} rows up to {int(source.max())}")
            kept = source >= 0
            new += int((~kept).sum())
            merged[name] = mine.clone()
            merged[name][kept] = old[source[kept]]
        elif old.shape != mine.shape:
            raise ValueError(f"{name}: {tuple(old.shape)} before, {tuple(mine.shape)} now; say which of its rows are which")
        else:
            merged[name] = old
    model.load_state_dict(merged)
    return new
