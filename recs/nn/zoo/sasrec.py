"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018), the plain reference that knows order, not time.

    h_item [B, L]  0 0 0 7 2 9          the newest L items of a history, oldest first, 0 = padding on the left
    target [B, T]  4 0 0                what came after it, 0 = nothing

    item + position ─▶ blocks of (norm, causal attention) and (norm, two-layer network) ─▶ norm ─▶ state of each position
    score of an item = state · item's own embedding

Each position is trained on the item that follows it, the last one on `target`.  Differences to the paper: norms before the layers
(steadier), softmax over the whole catalogue instead of one negative (Klenitskiy and Vasilev, RecSys 2023: that, not the
architecture, is what BERT4Rec was ahead by), GELU.

Shape suffixes: B histories, L positions, T targets, I items, D dimensions, H heads.  Item numbers are the model's own: 1 … I.
"""
from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from recs.nn.attention import Block
from recs.nn.losses import catalogue_softmax, gbce, sampled_softmax
from recs.nn.metrics import sums_of_ranks


class SASRecConfig(BaseModel):
    """Sizes and loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(50, ge=1)                   # positions; older items are not seen
    dim: int = Field(64, ge=1)
    blocks: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)         # .5 on logs with few events per item
    loss: Literal["softmax", "sampled", "gbce"] = "softmax"
    negatives: int = Field(256, ge=1)               # of sampled and gbce, shared by the batch
    every_position: bool = True                     # False: only the newest position is trained (examples of many cuts repeat histories)


class SASRec(nn.Module):
    """`n_items` items, numbered from 1."""

    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__()
        self.config, self.n_items = config, n_items
        self.item = nn.Embedding(n_items + 1, config.dim, padding_idx=0)
        self.position = nn.Embedding(config.length, config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.dropout, attention_dropout=config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.item.weight[0])

    def encode(self, h_item: Tensor) -> Tensor:
        """States [B, L, D] of all positions; the width may be less than `length` (positions count from the newest)."""
        n = h_item.shape[1]
        real = h_item > 0
        causal = torch.ones(n, n, dtype=torch.bool, device=h_item.device).tril()
        itself = torch.eye(n, dtype=torch.bool, device=h_item.device)      # padding sees itself: a row without any key would be NaN
        may_see = ((causal & real.unsqueeze(1)) | itself).unsqueeze(1)
        places = torch.arange(self.config.length - n, self.config.length, device=h_item.device)
        x = self.item(h_item) * math.sqrt(self.config.dim) + self.position(places)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x, may_see)
        return self.norm(x)

    def state(self, batch: dict[str, Tensor]) -> Tensor:
        """[B, D] after the newest item.  Widths are the caller's: a user's numbers must not depend on who else is in the batch."""
        return self.encode(batch["h_item"][:, -self.config.length:])[:, -1].float()

    def score(self, batch: dict[str, Tensor]) -> Tensor:
        """[B, I] float32: column c is item c + 1."""
        with torch.autocast(batch["h_item"].device.type, enabled=False):    # bf16 logits tie two thirds of neighbouring ranks
            return self.state(batch) @ self.item.weight[1:].T

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean over all (position, item that followed) of the batch."""
        h_item, target = self._trimmed(batch), batch["target"]
        states_BLD = self.encode(h_item)
        last = target > 0
        states, wanted = [states_BLD[:, -1:].expand(-1, target.shape[1], -1)[last]], [target[last]]
        if self.config.every_position:
            followed = h_item[:, :-1] > 0
            states.append(states_BLD[:, :-1][followed])
            wanted.append(h_item[:, 1:][followed])
        return self._loss_of(torch.cat(states), torch.cat(wanted).long())

    def _loss_of(self, states_ND: Tensor, wanted_N: Tensor) -> Tensor:
        table = self.item.weight
        if self.config.loss == "softmax":
            return catalogue_softmax(states_ND, table[1:], wanted_N - 1)
        drawn = torch.randint(1, self.n_items + 1, (self.config.negatives,), device=table.device)
        positive = (states_ND * table[wanted_N]).sum(-1)
        negatives = states_ND @ table[drawn].T
        if self.config.loss == "gbce":
            return gbce(positive, negatives, self.n_items)
        log_q = torch.full_like(drawn, -math.log(self.n_items), dtype=torch.float32)
        return sampled_softmax(positive, negatives, log_q, drawn == wanted_N.unsqueeze(1), log_q[:1].expand(len(wanted_N)))

    def evaluate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Ranks of `target` in the whole catalogue, as sums of metrics."""
        target = batch["target"].long()
        scores = self.score({"h_item": self._trimmed(batch)})
        columns = torch.arange(self.n_items, device=scores.device)

        def rank(column: Tensor) -> Tensor:         # [B, 1] -> [B] items ahead: better ones, and equal ones with a lower number
            own = scores.gather(1, column)
            return ((scores > own) | ((scores == own) & (columns < column))).sum(1)

        ranks = torch.stack([rank(column) for column in (target - 1).clamp(min=0).T.unsqueeze(2)], dim=1)    # [B, T]
        there = target > 0
        return sums_of_ranks(ranks, there & (ranks < 10), there.sum(1), k=10)

    def _trimmed(self, batch: dict[str, Tensor]) -> Tensor:
        """h_item without the columns that are padding in every row, at most `length` wide."""
        return batch["h_item"][:, -max(1, min(int(batch["h_len"].max()), self.config.length)):]
