"""Metrics of a network over a staged data set."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from recs.nn.ranks import Ranks
from recs.nn.reader import Reader


class TrainingError(RuntimeError):
    """The loss is no number or exploded; the message names epoch, step, batch and file."""


@torch.no_grad()
def evaluate(model: nn.Module, reader: Reader, us: Ranks, device: torch.device, bf16: bool = False) -> dict[str, float]:
    """Each metric of `model.evaluate` as sum / n over one epoch of the reader, over all ranks."""
    model.eval()
    sums: dict[str, Tensor] = {}
    with reader.epoch(0) as batches:
        for batch in batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                found = model.evaluate({name: torch.from_numpy(a).to(device) for name, a in batch.items()})
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value.double()
    names = sorted(sums)
    total = dict(zip(names, us.sum(torch.stack([sums[n] for n in names])).tolist(), strict=True))
    if not total["n"]:
        raise TrainingError(f"{reader.staged.folder}: no example of it counts, so there is nothing to choose the best weights by")
    return {name: total[name] / total["n"] for name in names if name != "n"}
