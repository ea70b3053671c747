"""The block that the transformers of `zoo/` share: attention, then two layers, norms first (Xiong et al., ICML 2020).

`watched` shows what attends to what: every attention of the zoo tells it its shares, while somebody looks.

Shape suffixes: B histories, L positions, D dimensions, H heads.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TOLD: list[Tensor] | None = None       # None: nobody looks


@contextmanager
def watched() -> Iterator[list[Tensor]]:
    """While the body runs: shares [B, H, asking, asked] of every attention, in the order in which they were computed."""
    global _TOLD
    _TOLD = found = []
    try:
        yield found
    finally:
        _TOLD = None


def tell(share: Tensor, of_one: bool = True) -> None:
    """Shares of an attention [B, H, asking, asked], for whoever is looking; where they are not `of_one`, as parts of their sum."""
    if _TOLD is not None:
        _TOLD.append((share if of_one else share / share.sum(-1, keepdim=True).clamp(min=1e-9)).detach())


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention [B, H, L, D/H].  `mask`: bool, who may be asked, or float, added to the logits."""
    if _TOLD is not None:
        added = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else mask
        tell((q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + added).softmax(dim=-1))
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout)


class Block(nn.Module):
    """`widen`: how many times wider than D the layer between is."""

    def __init__(self, dim: int, heads: int, dropout: float, attention_dropout: float = 0.0, widen: int = 4) -> None:
        super().__init__()
        self.heads, self.dropout, self.attention_dropout = heads, dropout, attention_dropout
        self.norm_attention, self.norm_layers = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.layers = nn.Sequential(nn.Linear(dim, widen * dim), nn.GELU(), nn.Linear(widen * dim, dim))

    def forward(self, x_BLD: Tensor, mask: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D].  `mask` [B, H or 1, L, L]: bool, which positions may be seen, or float, added to the logits."""
        b, n, d = x_BLD.shape
        qkv = self.qkv(self.norm_attention(x_BLD)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)        # each [B, H, L, D/H]
        seen = attended(q, k, v, mask, self.attention_dropout if self.training else 0.0)
        x_BLD = x_BLD + self._drop(self.out(seen.transpose(1, 2).reshape(b, n, d)))
        return x_BLD + self._drop(self.layers(self.norm_layers(x_BLD)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
