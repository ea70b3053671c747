"""TiSASRec: attention that knows how much time lies between two events (Li, Wang, McAuley, WSDM 2020).

    interval    r_ij = min(k, ⌊|t_i − t_j| / r_min⌋)       r_min: the user's own smallest gap above zero
    attention   e_ij = q_i · (k_j + R^K[r_ij] + P^K_j) / √d       α_i = softmax_j≤i e_ij
                z_i  = Σ_j α_ij (v_j + R^V[r_ij] + P^V_j)

As in the paper, with softmax over the catalogue instead of one negative.  R^K[r_ij] would be [B, L, L, D]; q_i · R^K is looked up
instead, and α is added up by interval before it meets R^V: [B, H, L, k].

Shape suffixes: B histories, L positions, D dimensions, H heads, k intervals.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from recs.nn.attention import tell
from recs.nn.next_item import Batch, NextItem, NextItemConfig, causal

LONGEST = 1 << 52       # microseconds, 143 years; F.pad takes a value by way of float64


class TiSASRecConfig(NextItemConfig):
    """With a transformer's sizes and the number of intervals."""

    blocks: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    intervals: int = Field(256, ge=1)       # k: gaps above k times the user's smallest are alike


class TiSASRec(NextItem):
    """`n_items` items, numbered from 1."""

    Config = TiSASRecConfig

    def __init__(self, n_items: int, config: TiSASRecConfig) -> None:
        super().__init__(n_items, config)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.interval = nn.ModuleList(nn.Embedding(config.intervals + 1, config.dim) for _ in "KV")
        self.position = nn.ModuleList(nn.Embedding(config.length, config.dim) for _ in "KV")
        self.norm = nn.LayerNorm(config.dim)
        self.start()

    def encode(self, batch: Batch) -> Tensor:
        """[B, L, D]."""
        h_item = batch["h_item"]
        places = self.places(h_item)
        x = self.dropped(self.item(h_item) * math.sqrt(self.config.dim))
        apart, may_see = self._intervals(batch["h_ts"]), causal(h_item)
        tables = [self.dropped(e.weight) for e in self.interval]
        positions = [self.dropped(e(places)) for e in self.position]
        for block in self.blocks:
            x = block(x, may_see, apart, tables, positions)
        return self.norm(x)

    def _intervals(self, ts_BL: Tensor) -> Tensor:
        """[B, L, L] r_ij."""
        gaps = ts_BL[:, 1:] - ts_BL[:, :-1]         # after padding, which has the request's instant, negative
        r_min = F.pad(gaps.masked_fill(gaps <= 0, LONGEST), (0, 1), value=LONGEST).amin(dim=1).view(-1, 1, 1)
        apart = (ts_BL.unsqueeze(2) - ts_BL.unsqueeze(1)).abs()
        return torch.div(apart, r_min, rounding_mode="floor").clamp(max=self.config.intervals)


class _Block(nn.Module):
    def __init__(self, config: TiSASRecConfig) -> None:
        super().__init__()
        d = config.dim
        self.config, self.qkv, self.out = config, nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.norm_attention, self.norm_layers = nn.LayerNorm(d), nn.LayerNorm(d)
        self.layers = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x_BLD: Tensor, may_see: Tensor, apart_BLL: Tensor, tables: list[Tensor], positions: list[Tensor]) -> Tensor:
        """[B, L, D] -> [B, L, D]; `tables` R^K, R^V [k + 1, D]; `positions` P^K, P^V [L, D]."""
        b, n, d = x_BLD.shape
        heads = self.config.heads
        q, k, v = self.qkv(self.norm_attention(x_BLD)).view(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4)    # [B, H, L, D/H]
        r_k, r_v, p_k, p_v = (t.view(-1, heads, d // heads).transpose(0, 1) for t in (*tables, *positions))        # [H, ·, D/H]
        apart = apart_BLL.unsqueeze(1).expand(b, heads, n, n)
        like = q @ (k + p_k).transpose(2, 3) + (q @ r_k.transpose(1, 2)).gather(3, apart)
        share = (like / math.sqrt(d // heads)).masked_fill(~may_see, -math.inf).softmax(dim=-1)
        tell(share)
        share = self._drop(share)
        by_interval = share.new_zeros(b, heads, n, r_v.shape[1]).scatter_add(3, apart, share)
        seen = share @ (v + p_v) + by_interval @ r_v
        x_BLD = x_BLD + self._drop(self.out(seen.transpose(1, 2).reshape(b, n, d)))
        return x_BLD + self._drop(self.layers(self.norm_layers(x_BLD)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)
