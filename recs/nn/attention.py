"""The block that the transformers of `zoo/` share: attention, then two layers, norms first (Xiong et al., ICML 2020).

Shape suffixes: B histories, L positions, D dimensions, H heads.
"""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


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
        seen = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=self.attention_dropout if self.training else 0.0)
        x_BLD = x_BLD + self._drop(self.out(seen.transpose(1, 2).reshape(b, n, d)))
        return x_BLD + self._drop(self.layers(self.norm_layers(x_BLD)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
