"""What moves the weights: AdamW (Loshchilov and Hutter, ICLR 2019) or SGD, and the course of the learning rate.

Weight decay pulls matrices only: not norms and biases, and not embeddings unless told (a rare item's row would be pulled to zero
at every step and trained at few).  A network may have parameters that learn at a rate of their own: its `rates()` says, by name, which
share of the learning rate is theirs.
"""
from __future__ import annotations

import math

import torch
from torch import nn

from recs.nn.items import ItemVectors
from recs.nn.settings import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimizer over all trained parameters; `share` of a group: of the learning rate."""
    decayed, rest = decay_groups(model, config.decay_embeddings)
    name_of, own = {id(p): name for name, p in model.named_parameters()}, getattr(model, "rates", dict)()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameters, decay in ((decayed, config.weight_decay), (rest, 0.0)):
        for p in parameters:
            groups.setdefault((own.get(name_of[id(p)], 1.0), decay), []).append(p)
    in_order = sorted(groups.items(), key=lambda g: -g[0][0])       # stable: what learns at the full rate first, decayed before the rest
    groups = [{"params": p, "weight_decay": decay, "share": share} for (share, decay), p in in_order]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def decay_groups(model: nn.Module, embeddings: bool) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(with, without) weight decay; each parameter once, in the order of `named_parameters`."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag, ItemVectors))}
    decayed, rest = [], []
    for p in model.parameters():
        if p.requires_grad:
            (decayed if p.ndim >= 2 and (embeddings or id(p) not in tables) else rest).append(p)
    return decayed, rest


def lr_at(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of optimizer step `step` of `steps`: linear warm-up, then down to `lr_end` × lr at the last."""
    warmup = config.warmup if config.warmup >= 1 else config.warmup * steps
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.lr
    way = min(1.0, (step - warmup) / max(1.0, steps - 1 - warmup))
    left = 1 - way if config.schedule == "linear" else (1 + math.cos(math.pi * way)) / 2
    return config.lr * (config.lr_end + (1 - config.lr_end) * left)
