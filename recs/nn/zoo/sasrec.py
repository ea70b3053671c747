"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018), the plain reference that knows order, not time.

    item + position ─▶ blocks of (norm, causal attention) and (norm, two-layer network) ─▶ norm ─▶ state of each position
    score of an item = state · item's own embedding

Differences to the paper: norms before the layers (steadier), softmax over the whole catalogue instead of one negative (Klenitskiy and
Vasilev, RecSys 2023: that, not the architecture, is what BERT4Rec was ahead by), GELU.

Shape suffixes: B histories, L positions, D dimensions.
"""
from __future__ import annotations

import math

from pydantic import Field
from torch import Tensor, nn

from recs.nn.attention import Block
from recs.nn.next_item import Batch, NextItem, NextItemConfig, causal


class SASRecConfig(NextItemConfig):
    """With a transformer's sizes."""

    blocks: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)


class SASRec(NextItem):
    """`n_items` items, numbered from 1."""

    Config = SASRecConfig

    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__(n_items, config)
        self.position = nn.Embedding(config.length, config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.dropout, attention_dropout=config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)
        self.start()

    def encode(self, batch: Batch) -> Tensor:
        """[B, L, D]."""
        h_item = batch["h_item"]
        x = self.item(h_item) * math.sqrt(self.config.dim) + self.position(self.places(h_item))
        x, may_see = self.dropped(x), causal(h_item)
        for block in self.blocks:
            x = block(x, may_see)
        return self.norm(x)
