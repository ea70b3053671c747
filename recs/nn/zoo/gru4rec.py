"""GRU4Rec: a recurrent network over the items of a history (Hidasi, Karatzoglou, Baltrunas, Tikk, ICLR 2016).

    z_t = σ(W_z x_t + U_z h_{t-1})        r_t = σ(W_r x_t + U_r h_{t-1})
    h_t = (1 − z_t) ⊙ tanh(W x_t + U (r_t ⊙ h_{t-1})) + z_t ⊙ h_{t-1}
    score of an item = norm(h_t) · its own embedding

The item's embedding is input and output ("constrained embeddings" of the authors' later work, Hidasi and Karatzoglou, CIKM 2018, who
also found cross-entropy over many items ahead of their first pairwise losses).  Difference to both: a layer norm on the state.

Shape suffixes: B histories, L positions, D dimensions.
"""
from __future__ import annotations

import math

from pydantic import Field
from torch import Tensor, nn

from recs.nn.next_item import Batch, NextItem, NextItemConfig
from recs.nn.recurrent import over_history


class GRU4RecConfig(NextItemConfig):
    """With the number of layers."""

    layers: int = Field(1, ge=1)


class GRU4Rec(NextItem):
    """`n_items` items, numbered from 1."""

    Config = GRU4RecConfig

    def __init__(self, n_items: int, config: GRU4RecConfig) -> None:
        super().__init__(n_items, config)
        self.gru = nn.GRU(config.dim, config.dim, config.layers, batch_first=True, dropout=config.dropout if config.layers > 1 else 0.0)
        self.norm = nn.LayerNorm(config.dim)
        self.start()

    def encode(self, batch: Batch) -> Tensor:
        """[B, L, D]."""
        h_item = batch["h_item"]
        x = self.dropped(self.item(h_item) * math.sqrt(self.config.dim))
        return self.dropped(self.norm(over_history(self.gru, x, h_item)))
