"""HSTU: hierarchical sequential transduction units (Zhai et al., "Actions speak louder than words", ICML 2024).

    U, V, Q, K = split(SiLU(W1 norm(x)))
    A_ij       = SiLU(Q_i · K_j + bias of place(i − j) + bias of time(asked at i − t_j)) / length       j ≤ i
    x          = x + W2 (norm(A V) ⊙ U)

Attention without softmax: how much there is of something counts, not only its share.  Time is measured from the instant a position is
asked (the next event's in training, the request's when lists are made), as in the authors' code, in buckets of log2 seconds; items
and states are compared by cosine over a temperature, their recipe too.

Shape suffixes: B histories, L positions, D dimensions, H heads.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from recs.nn.attention import tell
from recs.nn.next_item import Batch, NextItem, NextItemConfig, causal
from recs.nn.time import RelativeTimeBias

AGE_RATE = 10       # of the learning rate


class HSTUConfig(NextItemConfig):
    """With the number of layers and heads, and what the biases know."""

    blocks: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    time: bool = True                                       # False: places only
    temperature: float | None = Field(0.05, gt=0)


class HSTU(NextItem):
    """`n_items` items, numbered from 1."""

    Config = HSTUConfig

    def __init__(self, n_items: int, config: HSTUConfig) -> None:
        super().__init__(n_items, config)
        self.position = nn.Embedding(config.length, config.dim)
        self.layers = nn.ModuleList(_Unit(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)
        self.start()

    def encode(self, batch: Batch) -> Tensor:
        """[B, L, D]."""
        h_item = batch["h_item"]
        x = self.dropped(self.item(h_item) * math.sqrt(self.config.dim) + self.position(self.places(h_item)))
        may_see = causal(h_item) & (h_item > 0).view(len(h_item), 1, 1, -1)      # without softmax a row may be empty
        for layer in self.layers:
            x = layer(x, may_see, batch)
        return self.norm(x)

    def rates(self) -> dict[str, float]:
        """A bias is one number for all that is so old: at the rate of the rest it moves too little for two heads to part by age."""
        return super().rates() | {f"layers.{n}.since.bias.weight": AGE_RATE for n in range(len(self.layers)) if self.config.time}


class _Unit(nn.Module):
    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self.config, d = config, config.dim
        self.norm_in, self.norm_seen = nn.LayerNorm(d), nn.LayerNorm(d)
        self.uvqk, self.out = nn.Linear(d, 4 * d), nn.Linear(d, d)
        self.back = nn.Embedding(config.length, config.heads)
        if config.time:
            self.since = RelativeTimeBias(config.heads)

    def forward(self, x_BLD: Tensor, may_see: Tensor, batch: Batch) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        b, n, d = x_BLD.shape
        u, v, q, k = F.silu(self.uvqk(self.norm_in(x_BLD))).chunk(4, dim=-1)
        v, q, k = (t.view(b, n, self.config.heads, -1).transpose(1, 2) for t in (v, q, k))      # [B, H, L, D/H]
        place = torch.arange(n, device=x_BLD.device)
        bias = self.back((place.unsqueeze(1) - place).clamp(min=0)).permute(2, 0, 1)            # [H, L, L]
        if self.config.time:
            bias = bias + self.since(batch["ask_us"], batch["h_ts"])
        weight = F.silu(q @ k.transpose(2, 3) + bias).masked_fill(~may_see, 0.0) / self.config.length
        tell(weight)
        seen = (weight @ v).transpose(1, 2).reshape(b, n, d)
        return x_BLD + F.dropout(self.out(self.norm_seen(seen) * u), self.config.dropout, self.training)
